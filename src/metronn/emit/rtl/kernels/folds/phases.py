"""Phases of folds: counters, copies of control registers, and what is read by a phase.

A counter of phases rests at 0, so that what belongs to phase 0 is there before an event starts: only the counter's next
value needs the start. Starts are at least as far apart as there are phases.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metronn.emit.rtl.kernels.folds.common import ModuleText, literal, part
from metronn.plan.kernels.folds.clusters import LOADS, Patterns, lanes_of_copy


def phase_bits(beats: int) -> int:
    """Bits of a phase counter that counts to beats - 1."""
    return max(1, (beats - 1).bit_length())


def phase_counter(module: ModuleText, name: str, beats: int, start: str, copies: int, *, steps: bool = False) -> None:
    """Declare `name`, so many copies of the phase side by side, and `name`_d, the phase of the next cycle.

    The phase is 0 in the cycle of `start` and counts to the last one; with `steps` it moves on with each `start`.
    """
    bits = phase_bits(beats)
    last, one = f"{bits}'d{beats - 1}", f"{bits}'d1"
    moved = f"{name}_q + {one}" if beats == 1 << bits else f"({name}_q == {last}) ? {bits}'d0 : {name}_q + {one}"
    held = f"{bits}'({start})" if bits > 1 else start
    chosen = f"!{start} ? {name}_q : {moved}" if steps else f"({name}_q == {bits}'d0) ? {held} : {moved}"
    module.add(
        f'(* extract_reset = "no", shreg_extract = "no", max_fanout = {LOADS} *) logic [{bits - 1}:0] {name}_q;',
        f"wire [{bits - 1}:0] {name}_d = rst_i ? {bits}'d0 : {chosen};",
    )
    module.clocked(f"{name}_q <= {name}_d;")
    if copies:
        replicas(module, name, f"{name}_d", copies, bits)


def chain(module: ModuleText, name: str, source: str, cycles: int) -> None:
    """Declare `name`[1..cycles], which is the pulse `source` so many cycles before; nothing where none is needed."""
    if not cycles:
        return
    module.add(f'(* shreg_extract = "no" *) logic [{cycles}:1] {name};')
    module.unused.append(name)
    shift = source if cycles == 1 else f"{{{name}[{cycles - 1}:1], {source}}}"
    module.clocked(f"{name} <= rst_i ? {cycles}'d0 : {shift};")


def accumulators(
    module: ModuleText, name: str, first: str, bias: Sequence[int], bits: int, summed: str, beat: str = ""
) -> None:
    """Declare accumulators `name` of `bits` bits, lane `l` of which takes the value `summed`.

    A cycle after `first` they begin with the bias. With `beat` they move on only in the cycles after it.
    """
    lanes, each = len(bias), lanes_of_copy(bits)
    copies = -(-lanes // each)
    replicas(module, f"{name}_first", first, copies)
    if beat:
        replicas(module, f"{name}_beat", beat, copies)
    vector = f"{name.upper()}_BIAS"
    module.add(
        "// Accumulators: bias and the first sum, then every further one.",
        f"localparam logic [{lanes * bits - 1}:0] {vector} = {literal(bias, bits)};",
        f"logic [{lanes * bits - 1}:0] {name};",
    )
    begin = f"({name}_first[l / {each}] ? {part(vector, 'l', bits)} : {part(name, 'l', bits)})"
    step = f"{part(name, 'l', bits)} <= {begin} + {summed};"
    module.clocked(
        f"for (int l = 0; l < {lanes}; l++)", f"  if ({name}_beat[l / {each}]) {step}" if beat else f"  {step}"
    )


def replicas(module: ModuleText, name: str, source: str, copies: int, bits: int = 1) -> None:
    """Declare `name`, `copies` registers of `source` side by side, which synthesis keeps apart."""
    module.add(f"wire [{copies * bits - 1}:0] {name};")
    module.unused.append(name)
    module.add(
        f"for (genvar k = 0; k < {copies}; k++) begin : gen_{name}",
        "  mnn_replica #(",
        f"    .Width({bits})",
        "  ) u_copy (",
        "    .clk_i(clk_i),",
        f"    .data_i({source}),",
        f"    .data_o({part(name, 'k', bits)})",
        "  );",
        "end",
        "",
    )


def by_phase(module: ModuleText, target: str, found: Patterns, phase: str, *, clocked: bool) -> None:
    """Give `target` the words of the phase, with a register or without.

    A register of a word has all its bits until synthesis has put it into a DSP block: bits that never change too.
    """
    beats, width = found.values.shape[1], found.bits.size
    bits = phase_bits(beats)
    # The last two of a column are what ZERO and ONE index.
    rows = [np.concatenate([column, [1, 0]])[found.bits.ravel()] for column in found.values.T]
    words = [f"{width}'h{_word(row):x}" for row in rows]
    if beats == 1:
        module.add(f"assign {target} = {words[0]};", "")
        return
    sets = "<=" if clocked else "="
    lines = [
        f"unique case ({phase})",
        *(f"  {bits}'d{k}: {target} {sets} {word};" for k, word in enumerate(words[:-1])),
        f"  default: {target} {sets} {words[-1]};",
        "endcase",
    ]
    if clocked:
        module.clocked(*lines)
    else:
        module.add("always_comb", *(f"  {line}" for line in lines), "")


def _word(bits: npt.NDArray[np.int64]) -> int:
    """Return the number with these bits, the lowest first."""
    return int.from_bytes(np.packbits(bits.astype(np.uint8), bitorder="little").tobytes(), "little")
