"""An unrolled matrix as the plan has it: its adder graph, sum by sum, and the ops that follow, as one C++ struct."""

from __future__ import annotations

from collections.abc import Mapping

from metronn.emit.hls.chain import Chain, chain_of
from metronn.emit.hls.names import Names
from metronn.emit.hls.netlist import Ports, StraightLine, rows_of, straight_line
from metronn.emit.hls.ops import LibraryCall, Unrolled
from metronn.emit.hls.top import call, declaration
from metronn.emit.hls.values import type_line
from metronn.ir.ops import Linear
from metronn.plan.kernels.adders.matvec import PlannedAdders, row_count
from metronn.plan.kernels.netlist import Sum


def adders_call(planned: PlannedAdders, names: Names) -> LibraryCall:
    """Return the call that makes the result of an unrolled matrix from its vector; all values have names.

    Raises ModelError when a value is too wide.
    """
    spec, graph = planned.spec, planned.graph
    op = graph.by_name[spec.linear].op
    assert isinstance(op, Linear)
    result, name = planned.result, names[planned.result]
    rows = row_count(spec, graph)
    netlist, copies = rows_of(planned.structure[0], rows, op.weight.shape[0])
    ports = Ports(x=f"{names[op.x]}_t", sums=f"{names[spec.linear]}_t", y=f"{name}_t")
    code = straight_line(netlist, spec.linear, ports)
    chain = Chain()
    if code.sums:
        chain = chain_of(graph, spec.epilogue, {spec.linear: "sum_", result: "made_"}, names, f"adders:{name}")
        linear = graph.by_name[spec.linear]
        chain.types[names[spec.linear]] = type_line(names[spec.linear], linear.type, linear.source)
    sizes = {"x_": graph.type_of(op.x).size, "sum_": graph.type_of(spec.linear).size, "y_": graph.type_of(result).size}
    additions = sum(isinstance(cell.op, Sum) for cell in planned.structure[0].cells)
    struct = f"{name}_adders"
    lines = _struct(struct, name, code, ports, sizes, copies, chain)
    note = f"{additions} additions for {'' if rows == 1 else f'{rows} x '}{op.weight.shape[0]} -> {op.weight.shape[1]}"
    comment = f"// {graph.by_name[spec.linear].comment}: {note}\n"
    return LibraryCall(
        f"{struct}::run",
        "adders",
        sources=(op.x,),
        unrolled=Unrolled(
            text=comment + "".join(f"{line}\n" for line in lines),
            note=note + (", and what follows" if spec.epilogue else ""),
            inner=chain.inner,
            types=chain.types,
            headers=frozenset({"adders", "constant", *chain.headers}),
        ),
    )


def _struct(
    struct: str, name: str, code: StraightLine, ports: Ports, sizes: Mapping[str, int], copies: int, chain: Chain
) -> list[str]:
    own = {array: size // copies for array, size in sizes.items()}
    lines = [f"struct {struct} {{"]
    for number, part in enumerate(code.parts):
        parameters = [text.replace("[]", f"[{own.get(array, 0)}]") for array, text in part.parameters.items()]
        lines += [
            *f"  {declaration(f'static void {name}_part_{number}', parameters)} {{".split("\n"),
            "#pragma HLS INLINE off",
            "#pragma HLS PIPELINE II = 1",
            *(f"    {statement}" for statement in part.statements),
            "  }",
        ]
    lines += [
        f"  static void run(const {ports.x} x_[{sizes['x_']}], {ports.y} y_[{sizes['y_']}]) {{",
        "#pragma HLS INLINE",
    ]
    if code.sums:
        lines += _array(ports.sums, "sum_", sizes["sum_"])
        lines += [
            f"    sum_[{row * own['sum_'] + k}] = 0;  // has no epilogue" for row in range(copies) for k in code.done
        ]
    lines += _single(name, code, ports, own) if copies == 1 else _rows(name, code, ports, own, copies)
    if code.sums:
        lines += _array(ports.y, "made_", sizes["y_"])
        lines += [line if line.startswith("#") else f"  {line}" for line in chain.lines]
        lines += [f"    y_[{row * own['y_'] + k}] = made_[{row * own['y_'] + k}];"
                  for row in range(copies) for k in code.sums]  # fmt: skip
    return [*lines, "  }", "};"]


def _array(kind: str, name: str, size: int) -> list[str]:
    return [f"    {kind} {name}[{size}];", f"#pragma HLS ARRAY_PARTITION variable = {name} type = complete"]


def _called(name: str, code: StraightLine, place: Mapping[str, str]) -> list[str]:
    """Declare what goes from one function to another, and call them."""
    lines = [line for array, (kind, size) in code.arrays.items() for line in _array(kind, array, size)]
    for number, part in enumerate(code.parts):
        arguments = [place.get(array, array) for array in part.parameters]
        lines += f"  {call(f'{name}_part_{number}', arguments)}".split("\n")
    return lines


def _reads(code: StraightLine) -> bool:
    """Whether anything is read: not where all weights are 0."""
    return any("x_" in part.parameters for part in code.parts)


def _single(name: str, code: StraightLine, ports: Ports, own: Mapping[str, int]) -> list[str]:
    """Call the functions. They write to an array of this function's: a port of the top is written in one place."""
    lines = [] if _reads(code) else ["    (void)x_;  // all weights are 0"]
    if code.done:
        lines += _array(ports.y, "to_", own["y_"])
    lines += _called(name, code, {"y_": "to_"})
    return [*lines, *(f"    y_[{k}] = to_[{k}];" for k in code.done)]


def _rows(name: str, code: StraightLine, ports: Ports, own: Mapping[str, int], copies: int) -> list[str]:
    """Call the functions for each row."""
    inner = []
    if _reads(code):
        inner += [
            *_array(ports.x, "from_", own["x_"]),
            "    Inputs:",
            f"    for (int k_ = 0; k_ < {own['x_']}; k_++) {{",
            "#pragma HLS UNROLL",
            f"      from_[k_] = x_[row_ * {own['x_']} + k_];",
            "    }",
        ]
    if code.sums:
        inner += _array(ports.sums, "sums_", own["sum_"])
    if code.done:
        inner += _array(ports.y, "to_", own["y_"])
    inner += _called(name, code, {"x_": "from_", "sum_": "sums_", "y_": "to_"})
    inner += [f"    sum_[row_ * {own['sum_']} + {k}] = sums_[{k}];" for k in code.sums]
    inner += [f"    y_[row_ * {own['y_']} + {k}] = to_[{k}];" for k in code.done]
    return [
        *([] if _reads(code) else ["    (void)x_;  // all weights are 0"]),
        "  Rows:",
        f"    for (int row_ = 0; row_ < {copies}; row_++) {{",
        "#pragma HLS UNROLL",
        *(line if line.startswith("#") else f"  {line}" for line in inner),
        "    }",
    ]
