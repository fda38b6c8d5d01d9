"""Static checks of emitted HLS: what can be known of a project without the vendor's tool.

- Pragmas have names and options that the tool knows, of variables that are declared where they stand.
- Types and memories are within the tool's limits, evaluated for the configuration of every call.
- The top is a canonical dataflow region: declarations and calls, one writer and one reader for each queue.
- Every process is one loop of several iterations with nothing before it, which rewinds, or a pipelined function.
- The II of header, script and interface are one, or the header says that they are not; every process keeps it.
- No memory is accessed more often than it has ports, and registers are read at places that are known.
- With processes that are later than planned no queue is full for so long that a deadlock or a slower II comes of it.
- Neighbours have the same port with the same beats.
- No function makes more products than the tool schedules in reasonable time.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metronn.verify.hls_beats import beat_problems
from metronn.verify.hls_ports import memory_problems
from metronn.verify.hls_source import (
    Call,
    Function,
    Source,
    UnknownNameError,
    calls,
    evaluate,
    read_source,
)

MOST_ELEMENT_BITS = 4096
"""Widest integer and widest element of a queue."""

MOST_WORD_BITS = 65_536
"""Widest word of a reshaped array."""

MOST_PARTS = 4096
"""Elements into which an array is partitioned at most."""

MOST_PRODUCTS = 16_384
"""Products of one function: more take hours to schedule."""

NARROWER = "a larger II (--ii) lets fewer elements of the layer travel and be made at a time"
"""What to change where a layer is too wide for the tool."""

OPTIONS: Mapping[str, frozenset[str]] = {
    "AGGREGATE": frozenset({"variable", "compact"}),
    "ALLOCATION": frozenset({"operation", "instances", "limit"}),
    "ARRAY_PARTITION": frozenset({"variable", "type", "factor", "dim"}),
    "ARRAY_RESHAPE": frozenset({"variable", "type", "factor", "dim"}),
    "BIND_OP": frozenset({"variable", "op", "impl", "latency"}),
    "BIND_STORAGE": frozenset({"variable", "type", "impl", "latency"}),
    "DATAFLOW": frozenset(),
    "DEPENDENCE": frozenset({"variable", "type", "direction", "distance", "dependent", "class"}),
    "INLINE": frozenset({"off", "recursive"}),
    "INTERFACE": frozenset({"mode", "port"}),
    "LATENCY": frozenset({"min", "max"}),
    "PIPELINE": frozenset({"ii", "rewind", "style", "off"}),
    "STREAM": frozenset({"variable", "depth", "type"}),
    "UNROLL": frozenset({"factor"}),
}
VALUES: Mapping[tuple[str, str], frozenset[str]] = {
    ("ARRAY_PARTITION", "type"): frozenset({"complete", "cyclic", "block"}),
    ("ARRAY_RESHAPE", "type"): frozenset({"complete", "cyclic", "block"}),
    ("BIND_OP", "impl"): frozenset({"dsp", "fabric"}),
    ("BIND_STORAGE", "impl"): frozenset({"lutram", "bram", "srl", "uram"}),
    ("BIND_STORAGE", "type"): frozenset({"rom_1p", "rom_2p", "rom_np", "ram_1p", "ram_s2p", "ram_2p", "fifo"}),
    ("INTERFACE", "mode"): frozenset({"ap_fifo", "ap_none", "ap_vld"}),
    ("PIPELINE", "style"): frozenset({"stp", "flp", "frp"}),
    ("AGGREGATE", "compact"): frozenset({"bit"}),
}
FLAGS = frozenset({"rewind", "off", "recursive", "instances", "inter", "intra"})
WRITTEN = frozenset({"y", "first", "second"})
"""Parameters of the library's processes that are written; all other queues are read."""


def check_project(files: Mapping[str, str]) -> list[str]:
    """Return what is wrong with a project, given as text by path, a line each; nothing if nothing is."""
    source = read_source(files)
    found = [*_pragmas(source), *_types(source), *_registers(source)]
    top = source.functions.get(source.top)
    if top is None:
        return [*found, f"{source.top or 'project'}: no function of that name"]
    found += _intervals(source)
    if any(pragma.name == "DATAFLOW" for pragma in top.pragmas):
        region = list(_dataflow(source, top))
        expected = _expected(source)
        if not region and expected is not None:
            region += beat_problems(source, top, expected)
        found += region
    found += _products(source)
    return found


def check_neighbours(interfaces: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return where an FPGA puts out what the next does not take in, from their interface.json in order."""
    found = []
    for number, (first, second) in enumerate(zip(interfaces, interfaces[1:], strict=False)):
        where = f"fpga {number + 1} to {number + 2}"
        sent, received = ({port["name"]: _form(port) for port in side} for side in (first["outputs"], second["inputs"]))
        found += [f"{where}: {name} is on one side only" for name in sorted(sent.keys() ^ received.keys())]
        found += [
            f"{where}: {name} leaves as {sent[name]} and comes in as {received[name]}"
            for name in sorted(sent.keys() & received.keys())
            if sent[name] != received[name]
        ]
    return found


def check_build(folder: Path) -> list[str]:
    """Return what is wrong with the HLS of a build folder."""
    found: list[str] = []
    interfaces: dict[int, Mapping[str, Any]] = {}
    for project in sorted(path for path in (folder / "hls").iterdir() if path.is_dir()):
        files = {
            str(path.relative_to(project)): path.read_text(encoding="utf-8")
            for path in sorted(project.rglob("*"))
            if path.suffix in (".cpp", ".hpp", ".tcl", ".json", ".cfg")
        }
        found += [f"{project.name}/{problem}" for problem in check_project(files)]
        interface = json.loads(files["interface.json"])
        place = re.search(r"fpga (\d+) of", "\n".join(interface["generated"]))
        interfaces[int(place[1]) if place else len(interfaces)] = interface
    return found + check_neighbours([interfaces[number] for number in sorted(interfaces)])


def _form(port: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in port.items() if key not in ("name", "port")}


# Pragmas


def _pragmas(source: Source) -> Iterator[str]:
    for function in source.functions.values():
        for pragma in function.pragmas:
            where = f"{function.path}:{pragma.line}"
            known = OPTIONS.get(pragma.name)
            if known is None:
                yield f"{where}: pragma {pragma.name} is not known"
                continue
            for option, value in pragma.options.items():
                if option not in known and option not in FLAGS:
                    yield f"{where}: {pragma.name} has no option {option}"
                allowed = VALUES.get((pragma.name, option))
                if allowed is not None and value not in allowed:
                    yield f"{where}: {pragma.name} {option} is {value}, allowed are {', '.join(sorted(allowed))}"
            name = pragma.options.get("variable") or pragma.options.get("port")
            if name and not _declared(function, name.split(".")[0], pragma.line):
                yield f"{where}: {pragma.name} of {name}, which is not declared above it"


def _declared(function: Function, name: str, line: int) -> bool:
    """Whether a name is a parameter, or is declared above a line in a block that is still open there."""
    if name in function.parameters:
        return True
    depth, declared = 0, []
    for text in function.body[: line - function.line - 1]:
        if re.search(rf"[\w>&*]\s+[&*]?\(?{name}\b\)?\s*(?:[\[(;={{,]|$)", text) or re.search(rf", {name}[;,\[]", text):
            declared.append(depth + text.count("{"))
        depth += text.count("{") - text.count("}")
        declared = [level for level in declared if level <= depth]
    return bool(declared)


# Limits


def _types(source: Source) -> Iterator[str]:
    for name, bits in source.widths.items():
        if bits > MOST_ELEMENT_BITS:
            yield f"{name}: {bits} bits, allowed are {MOST_ELEMENT_BITS}; quantize the layer to fewer bits"
    for name, (bits, slots, words) in source.beats.items():
        wide = -(-slots // words) * bits
        if wide > MOST_ELEMENT_BITS:
            yield f"{name}: a queue of {wide} bits, allowed are {MOST_ELEMENT_BITS}"


def _registers(source: Source) -> Iterator[str]:
    """Check arrays of the project's own functions: registers, and the words of ports."""
    for function in source.functions.values():
        if function.path.startswith("metronn/"):
            continue
        text = "\n".join([*function.parameters.values(), *function.body])
        for pragma in function.pragmas:
            if pragma.name not in ("ARRAY_PARTITION", "ARRAY_RESHAPE"):
                continue
            name = pragma.options["variable"]
            declared = re.search(rf"([\w:]+(?:<\d+>)?) {re.escape(name)}\[(\d+)\]", text)
            if declared is None:
                continue
            parts, where = int(declared[2]), f"{function.path}: {pragma.name} of {name}"
            word = parts * source.widths.get(declared[1], 0)
            if pragma.name == "ARRAY_PARTITION" and parts > MOST_PARTS:
                yield f"{where}: {parts} parts, allowed are {MOST_PARTS}; {NARROWER}"
            if pragma.name == "ARRAY_RESHAPE" and word > MOST_WORD_BITS:
                yield f"{where}: a word of {word} bits, allowed are {MOST_WORD_BITS}; {NARROWER}"


def _values(source: Source, call: Call, function: Function, called: Function | None = None) -> dict[str, int]:
    """Return the values of names in a function of the library that is called with a configuration.

    `called`: the process that calls it and hands on its queues under their names, where it is another function.
    """
    values: dict[str, int] = {"true": 1, "false": 0}
    values |= {f"cfg::{key}": value for key, value in source.constants.get(call.template[0], {}).items()}
    if call.template[0].isdigit():
        values["beats"] = int(call.template[0])
    named = [(f"{argument}_t", argument) for argument in ("x", "begin", "columns", "first", "second")]
    for kind, argument in (("in_t", "x"), ("out_t", "y"), *named):
        names = list((called or function).parameters)
        if argument in names and names.index(argument) < len(call.arguments):
            slots = source.beats.get(_queue_types(source).get(call.arguments[names.index(argument)], ""), (0, 0, 0))[1]
            values[f"{kind}::slots"] = slots
    for constant in re.finditer(r"^\s*const int (\w+) = ([^;]*);", "\n".join(function.body), re.MULTILINE):
        value = _value(constant[2], values)
        if value is not None:
            values[constant[1]] = value
    return values


def _queue_types(source: Source) -> dict[str, str]:
    """Type of what is in each queue of the top, its ports included."""
    top = source.functions[source.top]
    text = "\n".join([*top.parameters.values(), *top.body])
    return {name: kind for kind, name in re.findall(r"metronn::stream<(\w+)> [&(]*(\w+)", text)}


def _memories(source: Source, call: Call, function: Function, values: Mapping[str, int]) -> Iterator[str]:
    """Check what a call partitions and reshapes."""
    reshaped: dict[str, int] = {}
    for pragma in function.pragmas:
        if pragma.name not in ("ARRAY_PARTITION", "ARRAY_RESHAPE"):
            continue
        name = pragma.options["variable"]
        where = f"{call.template[0]}: {pragma.name} of {name}"
        factor = _value(pragma.options.get("factor", ""), values)
        if factor is not None and factor < 1:
            yield f"{where}: the factor is {factor}"
        dims = _dims(source, call, function, name, values)
        if dims is None:
            continue
        whole, element_bits = dims
        dim = int(pragma.options.get("dim", "1"))
        parts = factor if factor is not None else whole[dim - 1] if dim else math.prod(whole)
        if pragma.name == "ARRAY_PARTITION" and parts > MOST_PARTS:
            yield f"{where}: {parts} parts, allowed are {MOST_PARTS}; {NARROWER}"
        if pragma.name == "ARRAY_RESHAPE":
            word = reshaped.get(name, element_bits) * max(1, parts)
            reshaped[name] = word
            if word > MOST_WORD_BITS:
                yield f"{where}: a word of {word} bits, allowed are {MOST_WORD_BITS}; {NARROWER}"


def _value(text: str, values: Mapping[str, int]) -> int | None:
    """Return the value of an expression, None where it is empty or not known."""
    try:
        return evaluate(text, values) if text else None
    except UnknownNameError:
        return None


def _dims(
    source: Source, call: Call, function: Function, name: str, values: Mapping[str, int]
) -> tuple[tuple[int, ...], int] | None:
    """Return dimensions of an array of a function, and the bits of an element where they are stored constants."""
    names = list(function.parameters)
    if name in names:
        given = call.arguments[names.index(name)] if names.index(name) < len(call.arguments) else ""
        stored = source.stored.get(given)
        return None if stored is None else (stored.dims, stored.bits)
    if name.endswith(".slot"):
        kind = re.search(rf"^\s*(?:const )?(\w+) {name.split('.')[0]}\b", "\n".join(function.body), re.MULTILINE)
        slots = values.get(f"{kind[1]}::slots") if kind else None
        return None if slots is None else ((slots,), 0)
    for text in function.body:
        match = re.search(rf"[\w>] {re.escape(name)}((?:\[[^\]]+\])+)(?:;|,| =)", text)
        if match:
            sizes = [_value(part, values) for part in re.findall(r"\[([^\]]+)\]", match[1])]
            return None if None in sizes else (tuple(size for size in sizes if size is not None), 0)
    return None


# Dataflow


def _dataflow(source: Source, top: Function) -> Iterator[str]:
    text = "\n".join(line for line in top.body if not line.startswith("#"))
    queues = re.findall(r"metronn::stream<\w+> (\w+)(?:\(\"\w+\"\)|\[\d+\]);", text)
    rest = re.sub(r"metronn::stream<\w+> \w+(?:\(\"\w+\"\)|\[\d+\]);", "", text)
    rest = re.sub(r"metronn::\w+(?:<[^;()]*>)?\([^;]*\);", "", rest)
    if rest.strip():
        yield f"{top.path}: the dataflow region has more than declarations and calls: {rest.split()[0]} ..."
    written: dict[str, int] = dict.fromkeys(queues, 0)
    read: dict[str, int] = dict.fromkeys(queues, 0)
    for call in calls(top):
        function = source.functions.get(call.function)
        if function is None:
            yield f"{top.path}: {call.function} is not in the library"
            continue
        names = [*function.parameters]
        names += [names[-1]] * (len(call.arguments) - len(names))
        for argument, name in zip(call.arguments, names, strict=False):
            side = written if name in WRITTEN else read
            if argument in side:
                side[argument] += 1
        yield from _process(source, call, function)
    for name in queues:
        if (written[name], read[name]) != (1, 1):
            yield f"{top.path}: queue {name} has {written[name]} writers and {read[name]} readers, allowed is one each"


def _process(source: Source, call: Call, function: Function) -> Iterator[str]:
    """Check a process: its loop, what stands before it, its memories, and how long it takes."""
    values = _values(source, call, function)
    yield from _memories(source, call, function, values)
    inner = _followed(source, function)
    if inner is not function:
        values = _values(source, call, inner)
        yield from _memories(source, call, inner, values)
    name = call.template[0] if not call.template[0].isdigit() else f"{call.function} of {call.arguments[0]}"
    for worker in _inlined(source, inner):
        given = dict(zip(function.parameters, call.arguments, strict=False)) if worker in (inner, function) else {}
        stored = {name: source.stored[given[name]] for name in worker.parameters if given.get(name) in source.stored}
        known = _values(source, call, worker, None if worker is inner else function)
        yield from memory_problems(source, name, function, worker, known, stored)
    loops = _loops(inner)
    if not loops:
        if not any(pragma.name == "PIPELINE" for pragma in inner.pragmas):
            yield f"{name}: {inner.name} has no loop and is no pipeline"
        return
    for text in inner.body[: loops[0][0]]:
        if _runs(text):
            yield f"{name}: {inner.name} does something before its loop: {text.strip()}"
    bounds = [_value(bound, values) for _, bound in loops]
    if None in bounds:
        yield f"{name}: {inner.name} has a loop whose bound is not known: {loops[bounds.index(None)][1]}"
        return
    trips = math.prod(bound for bound in bounds if bound is not None)
    pipelines = [pragma for pragma in inner.pragmas if pragma.name == "PIPELINE"]
    if len(pipelines) != 1:
        yield f"{name}: {inner.name} has {len(pipelines)} pipelines"
        return
    if "rewind" not in pipelines[0].options:
        yield f"{name}: the loop of {inner.name} does not rewind"
    if "style" not in pipelines[0].options:
        yield f"{name}: the pipeline of {inner.name} has no style"
    if trips <= 1:
        yield f"{name}: the loop of {inner.name} has {trips} iteration"
    interval = _value(pipelines[0].options.get("ii", "1"), values) or 1
    expected = _expected(source)
    if expected is not None and trips * interval > expected:
        yield f"{name}: takes {trips * interval} cycles an event, one comes every {expected}"


def _inlined(source: Source, function: Function) -> list[Function]:
    """Return a function of the library and those that it calls on its queues."""
    found = [function]
    for text in function.body:
        match = re.match(
            r"\s*(\w+)<[^;]*>\((?:y, x|past, step, x|ring, step, now, x|past, column|past, at, y)(?:\.\.\.)?\);$", text
        )
        if match and match[1] in source.functions:
            found.append(source.functions[match[1]])
    return found


def _followed(source: Source, function: Function) -> Function:
    """Return the function that does the work of one that only calls it."""
    own = [text for text in function.body if text.strip() and not text.lstrip().startswith("#")]
    match = re.match(r"\s*(?:return )?(\w+)<[^;]*>\([^;]*\);$", own[0]) if len(own) == 1 else None
    return source.functions.get(match[1], function) if match and not _loops(function) else function


def _loops(function: Function) -> list[tuple[int, str]]:
    """Return the loops that are not unrolled, outermost first: place in the body, and bound. They must be nested."""
    found = []
    for number, text in enumerate(function.body):
        match = re.match(r"\s*for \(int \w+ = 0; \w+ < (.*); \w+(?:\+\+| \+= .*)\) \{$", text)
        if match and "UNROLL" not in (function.body[number + 1] if number + 1 < len(function.body) else ""):
            found.append((number, match[1]))
    return found


def _runs(text: str) -> bool:
    """Whether a line before a loop is more than a declaration without a value, a constant of the type, or a pragma."""
    plain = text.strip()
    if not plain or plain.startswith(("#", "static_assert", "typedef", "const int ", '"')) or plain.endswith(":"):
        return False
    if re.match(r"for \(", plain):
        return False
    return bool(re.search(r"[^=!<>]=[^=]|\+\+|\)\s*;", plain)) and not plain.startswith(("cfg::", "sizeof"))


# Cycles and sizes


def _expected(source: Source) -> int | None:
    """II that the project's own interface.json expects."""
    interface = json.loads(source.files.get("interface.json", "{}"))
    value = interface.get("expected", {}).get("ii_cycles")
    return None if value is None else int(value)


def _intervals(source: Source) -> Iterator[str]:
    header = source.files.get(f"{source.top}.cpp", "")
    planned = re.search(r"\| II (\d+)$", header, re.MULTILINE)
    if planned is None:
        yield f"{source.top}.cpp: the header does not say the II"
        return
    told = re.search(r"HLS takes an event every (\d+) cycles", header)
    promised = int(told[1]) if told else int(planned[1])
    scripts = "\n".join(text for path, text in source.files.items() if path.endswith(".tcl"))
    checked = re.search(r"ii_cycles (\d+)", scripts)
    for what, value in (("script", int(checked[1]) if checked else None), ("interface.json", _expected(source))):
        if value != promised:
            yield f"{source.top}: the header says II {promised}, {what} {value}"


def _products(source: Source) -> Iterator[str]:
    """Check how many products a function of the library makes: those of a matrix are made in blocks of results."""
    blocks = "dense_block" in source.functions
    for struct, values in source.constants.items():
        if {"rows", "n_in", "n_out"} <= values.keys():
            total = values["rows"] * values["n_in"] * values["n_out"]
            count = max(values["n_in"], min(total, MOST_PRODUCTS)) if blocks else total
        else:
            count = values.get("multipliers", 0)
        if count > MOST_PRODUCTS:
            yield f"{struct}: {count} products in one function, allowed are {MOST_PRODUCTS}; {NARROWER}"
