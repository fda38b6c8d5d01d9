"""Where each cycle of the latency goes: the longest path through kernels and links, walked back from the result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from metronn.plan.design import Design, FpgaDesign, FrameField, KernelInstance


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Cycles spent on one thing: system cycles [start, start + cycles). `kernel` is None for links and waiting."""

    what: str
    fpga: str
    start_cycle: int
    cycles: int
    kernel: str | None = None


def critical_path(design: Design) -> tuple[Share, ...]:
    """Return the shares in order of time; their cycles add up to the promised latency."""
    return tuple(share for share in reversed(tuple(_walk(design))) if share.cycles)


def _walk(design: Design) -> Iterator[Share]:
    """Walk from the last beat of the last output to cycle 0: at each step, what made the beat that came last."""
    index = len(design.fpgas) - 1
    fpga = design.fpgas[index]
    name = max((output.signal for output in design.outputs), key=lambda s: fpga.signal[s].last_cycle)
    now = fpga.signal[name].last_cycle
    if fpga.leaves is not None:
        start = fpga.offset_cycles + now
        yield Share(
            what="words of the results", fpga=fpga.name, start_cycle=start, cycles=design.latency_cycles - start
        )
    while True:
        producer = next((kernel for kernel in fpga.kernels if kernel.output == name), None)
        if producer is not None:
            yield _share(fpga, producer, now)
            now = producer.start_cycle
            if not producer.inputs:
                return
            name = max(producer.inputs, key=lambda s: fpga.signal[s].first_cycle)
            if fpga.signal[name].first_cycle < now:
                waited = now - fpga.signal[name].first_cycle
                now -= waited
                yield Share(what="waiting", fpga=fpga.name, start_cycle=fpga.offset_cycles + now, cycles=waited)
            continue
        field = _field(fpga, name)
        if field is None or fpga.receives is None:
            what = "waiting" if fpga.enters is None else "words of the inputs"
            yield Share(what=what, fpga=fpga.name, start_cycle=fpga.offset_cycles, cycles=now)
            return
        frame, sender = fpga.receives, design.fpgas[index - 1]
        source = sender.signal[field.source]
        # Values that are made after word 0 has left travel in later words: all is counted from the word they can take.
        word = max(0, source.first_cycle - frame.send_cycle)
        here, sent = fpga.offset_cycles + word, sender.offset_cycles + frame.send_cycle + word
        yield Share(what="words of the frame", fpga=fpga.name, start_cycle=here, cycles=now - word)
        yield Share(what=f"link {sender.name} to {fpga.name}", fpga="", start_cycle=sent, cycles=here - sent)
        index, name, fpga = index - 1, field.source, sender
        now = min(frame.send_cycle + word, source.last_cycle)
        start = fpga.offset_cycles + now
        yield Share(what="frame packing", fpga=fpga.name, start_cycle=start, cycles=sent - start)


def _share(fpga: FpgaDesign, kernel: KernelInstance, now: int) -> Share:
    return Share(
        what=kernel.name,
        fpga=fpga.name,
        start_cycle=fpga.offset_cycles + kernel.start_cycle,
        cycles=now - kernel.start_cycle,
        kernel=kernel.name,
    )


def _field(fpga: FpgaDesign, signal: str) -> FrameField | None:
    if fpga.receives is None:
        return None
    return next((field for field in fpga.receives.fields if field.target == signal), None)
