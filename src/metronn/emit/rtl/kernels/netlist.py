"""Pipelined netlists in SystemVerilog: one wire per cell, registers between the stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from metronn.emit.rtl.scalar import ScalarFunction, scalar_function
from metronn.emit.rtl.slots import Vector, port_vector
from metronn.emit.rtl.text import below, module_text, range_type, signed_literal, signed_width
from metronn.ir.graph import Graph
from metronn.ir.types import TensorType
from metronn.plan.kernels.netlist import (
    Affine,
    Cell,
    ConstantCell,
    EpilogueCell,
    Keep,
    Netlist,
    Pick,
    Source,
    Sum,
    cell_reads,
)
from metronn.plan.kernels.uniform import function_key


def emit_netlist(
    netlist: Netlist,
    *,
    module_name: str,
    contract: Sequence[str],
    inputs: Sequence[TensorType],
    output: TensorType,
    epilogue: Graph | None = None,
) -> str:
    """Return the module of a netlist with parallel ports x0_i, ... and y_o.

    `epilogue` is the graph the netlist's calls name.
    """
    ports = [port_vector(f"x{k}_i", tensor) for k, tensor in enumerate(inputs)]
    out = port_vector("y_o", output)
    functions: dict[object, ScalarFunction] = {}
    delays = netlist.delays()
    body: list[str] = []
    for stage in range(netlist.stage_count):
        body += _stage(netlist, stage, delays, ports, epilogue, functions)
    for k, result in enumerate(netlist.results):
        cell = netlist.cells[result]
        value = _read(netlist, result, netlist.stage_count)
        fits = cell.width == out.elements[k].width
        cast = value if fits else f"{out.elements[k].width}'({value})"
        body.append(f"  assign {out.target(k)} = {cast};")
    texts = [function.text for function in functions.values()]
    idle = ["rst_i", "start_i"]
    if not any(delays):
        idle.insert(0, "clk_i")
    used = {(c.op.port, c.op.element) for c in netlist.cells if isinstance(c.op, Source)}
    for cell in netlist.cells:
        if isinstance(cell.op, EpilogueCell) and cell.lo == cell.hi:
            idle += [_read(netlist, read, cell.stage) for read in cell_reads(cell.op)]
        if isinstance(cell.op, Keep) and cell.op.shift <= 0:
            width = netlist.cells[cell.op.cell].width
            first = cell.width + cell.op.shift
            last = width - 1 - int(cell.op.ramp)
            if first <= last:
                idle.append(f"{_read(netlist, cell.op.cell, cell.stage)}[{last}:{max(0, first)}]")
    for number, port in enumerate(ports):
        idle += [port.target(k) for k in range(len(port.elements)) if (number, k) not in used]
    return module_text(
        name=module_name,
        contract=contract,
        ports=[(port.name, port.width) for port in ports],
        output=("y_o", out.width),
        body=["\n".join(texts), *body] if texts else body,
        unused=idle,
    )


def _stage(
    netlist: Netlist,
    stage: int,
    delays: Sequence[int],
    ports: Sequence[Vector],
    epilogue: Graph | None,
    functions: dict[object, ScalarFunction],
) -> list[str]:
    """Write the wires made in a stage and the registers at its end."""
    wires, declared, moved = [], [], []
    for index, cell in enumerate(netlist.cells):
        kind = range_type(cell.lo, cell.hi)
        if cell.stage == stage:
            wires.append(f"  wire {kind} {cell.name} = {_made(netlist, cell, ports, epilogue, functions)};")
        age = stage - cell.stage
        if 0 <= age < delays[index]:
            declared.append(f"  {kind} {cell.name}_q{age + 1};")
            moved.append(f"    {cell.name}_q{age + 1} <= {cell.name}{f'_q{age}' if age else ''};")
    lines = [f"  // stage {stage}", *wires]
    if moved:
        lines += [*declared, "  always_ff @(posedge clk_i) begin", *moved, "  end"]
    return [*lines, ""]


def _read(netlist: Netlist, index: int, stage: int) -> str:
    """Name of a cell's value in a stage."""
    cell = netlist.cells[index]
    if isinstance(cell.op, ConstantCell) or stage == cell.stage:
        return cell.name
    return f"{cell.name}_q{stage - cell.stage}"


def _signed(netlist: Netlist, index: int, stage: int, shift: int = 0, fill: int = 0) -> tuple[str, int]:
    """Signed text of a cell's value shifted up, the constant `fill` in the bits below, and its width."""
    cell = netlist.cells[index]
    text = _read(netlist, index, stage)
    parts = ([] if cell.lo < 0 else ["1'b0"]) + [text] + ([f"{shift}'d{fill}"] if shift else [])
    return (f"$signed({{{', '.join(parts)}}})" if len(parts) > 1 else text), signed_width(cell.lo, cell.hi) + shift


def _sized(term: tuple[str, int], width: int) -> str:
    return term[0] if term[1] == width else f"{width}'({term[0]})"


def _made(
    netlist: Netlist,
    cell: Cell,
    ports: Sequence[Vector],
    epilogue: Graph | None,
    functions: dict[object, ScalarFunction],
) -> str:
    """Text that makes a cell, exactly as wide as the cell."""
    op = cell.op
    match op:
        case Source():
            return ports[op.port].read(op.element)
        case ConstantCell():
            return f"{cell.width}'({signed_literal(op.value, signed_width(op.value, op.value))})"
        case Sum():
            text, width = _sum(netlist, op, cell)
            return _fitted(text, width, cell)
        case Keep():
            return _kept(netlist, op, cell)
        case Affine():
            term = _signed(netlist, op.cell, cell.stage, max(op.shift, 0))
            width = max(term[1], signed_width(cell.lo, cell.hi), signed_width(op.offset, op.offset))
            value = _sized(term, width)
            if op.shift < 0:
                value = f"({value} >>> {-op.shift})"
            if op.offset or op.negative:
                value = f"{signed_literal(op.offset, width)} {'-' if op.negative else '+'} {value}"
            return _fitted(value, width, cell)
        case Pick():
            left = _signed(netlist, op.left, cell.stage, op.left_shift)
            right = _signed(netlist, op.right, cell.stage, op.right_shift)
            width = max(left[1], right[1])
            first, second = _sized(left, width), _sized(right, width)
            low, high = (second, first) if op.largest else (first, second)
            return _fitted(f"({below(first, second, width)}) ? {low} : {high}", width, cell)
        case EpilogueCell():
            assert epilogue is not None
            function = _function(netlist, op, epilogue, functions)
            values = ", ".join(_read(netlist, read, cell.stage) for read in cell_reads(op))
            call = f"{function.name}({values})"
            return call if function.result_width == cell.width else f"{cell.width}'({call})"
        case _:
            assert_never(op)


def _sum(netlist: Netlist, op: Sum, cell: Cell) -> tuple[str, int]:
    """Write a sum or difference, and its width; the constant goes into the carry or into empty low bits where it can.

    a + b + 1 is a - ~b, and a - b - 1 is a + ~b.
    """
    left = _signed(netlist, op.left, cell.stage, op.left_shift)
    right = _signed(netlist, op.right, cell.stage, op.right_shift)
    width = max(left[1], right[1], signed_width(cell.lo, cell.hi))
    step = 1 << max(op.left_shift, op.right_shift) if not op.subtract else 1 << op.right_shift
    if not op.offset:
        return f"{_sized(left, width)} {'-' if op.subtract else '+'} {_sized(right, width)}", width
    if op.subtract and op.left_shift and 0 < op.offset < 1 << op.left_shift:
        filled = _signed(netlist, op.left, cell.stage, op.left_shift, fill=op.offset)
        return f"{_sized(filled, width)} - {_sized(right, width)}", width
    if op.offset == (-step if op.subtract else step):
        sign = "+" if op.subtract else "-"
        if op.left_shift and not op.subtract:
            inverted = _inverted(netlist, op.left, cell.stage, op.left_shift)
            return f"{_sized(right, width)} {sign} {_sized(inverted, width)}", width
        inverted = _inverted(netlist, op.right, cell.stage, op.right_shift)
        return f"{_sized(left, width)} {sign} {_sized(inverted, width)}", width
    raise AssertionError(f"{cell.name}: {op.offset} is no constant that the addition takes in")


def _inverted(netlist: Netlist, index: int, stage: int, shift: int) -> tuple[str, int]:
    """Signed text of (-1 - a cell's value) shifted up, and its width."""
    text, width = _signed(netlist, index, stage)
    return (f"$signed({{~{text}, {shift}'d0}})" if shift else f"~{text}"), width + shift


def _kept(netlist: Netlist, op: Keep, cell: Cell) -> str:
    source = netlist.cells[op.cell]
    name = _read(netlist, op.cell, cell.stage)
    term = _signed(netlist, op.cell, cell.stage, max(0, -op.shift))
    text = f"({term[0]} >>> {op.shift})" if op.shift > 0 else term[0]
    if term[1] != cell.width:
        text = f"{cell.width}'{text}" if op.shift > 0 else f"{cell.width}'({text})"
    if not op.ramp or source.lo >= 0:
        return text
    return f"{name}[{source.width - 1}] ? {cell.width}'{'s' if cell.lo < 0 else ''}d0 : {text}"


def _fitted(text: str, width: int, cell: Cell) -> str:
    """Return a signed expression of `width` bits cut to the cell's width."""
    return text if width == cell.width else f"{cell.width}'({text})"


def _function(
    netlist: Netlist, op: EpilogueCell, epilogue: Graph, functions: dict[object, ScalarFunction]
) -> ScalarFunction:
    """Return the function of a call; calls with the same arithmetic and argument bounds share one."""
    arguments = {value: (netlist.cells[k].lo, netlist.cells[k].hi) for value, k in op.reads}
    key = (op.nodes, function_key(epilogue, op.nodes, op.element), tuple(arguments.values()))
    if key not in functions:
        name = f"epilogue_f{len(functions)}"
        functions[key] = scalar_function(name, epilogue, op.nodes, op.element, arguments)
    return functions[key]
