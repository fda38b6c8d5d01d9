"""The terminal report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metronn.quantize.judge import Signal, element_name
from metronn.quantize.report import judging_words
from metronn.report.summary import RESOURCE_TITLES, RegionRow, Summary, count_text, used_resources
from metronn.report.tables import table_text
from metronn.verify.verdict import STATIC_RUNG, Status

PLAN_COLUMNS = ("layer", "kernel", "FPGA", "start", "latency", "puts out", "LUT", "DSP")
BAR = 40
"""Characters of the longest bar."""


def summary_text(summary: Summary, report: Path) -> str:
    """Return the whole summary of a build."""
    parts = [plan_text(summary), quantization_text(summary), verdicts_text(summary), promise_text(summary)]
    return "\n".join(part for part in parts if part) + f"\nreport: {report}\n"


def plan_rows(summary: Summary) -> list[tuple[str, ...]]:
    """Return a row per kernel, in the order of PLAN_COLUMNS."""
    return [
        (
            kernel.layer,
            kernel.kind,
            kernel.fpga,
            str(kernel.start_cycle),
            str(kernel.latency_cycles),
            kernel.beats,
            count_text(kernel.resources["lut"]),
            count_text(kernel.resources["dsp"]),
        )
        for kernel in summary.kernels
    ]


def plan_text(summary: Summary) -> str:
    """Return the plan: kernels, where the cycles go, resources, links."""
    count = len(summary.fpgas)
    parts = [
        f"{summary.name} on {summary.system}: {count} FPGA{'s' if count > 1 else ''}, II {summary.ii_cycles} cycles at "
        f"{summary.clock_mhz:g} MHz\n"
    ]
    parts.append(table_text(PLAN_COLUMNS, plan_rows(summary), right=(3, 4, 6, 7)))
    parts.append(edges_text(summary))
    parts.append(waterfall_text(summary))
    parts.append(resources_text(summary))
    parts += [text for text in (regions_text(summary),) if text]
    if summary.links:
        parts.append(links_text(summary))
    if summary.words:
        parts.append(table_text(WORDS_COLUMNS, words_rows(summary), right=range(1, 6)))
    return "\n".join(parts)


EDGE_COLUMNS = ("edge", "made by", "FPGA", "beats", "bits a beat", "first cycle", "last cycle")


def edge_rows(summary: Summary) -> list[tuple[str, ...]]:
    """Return a row per value on wires, in the order of EDGE_COLUMNS."""
    return [
        (edge.value, edge.maker, edge.fpga, edge.beats, f"{edge.bits:,}", str(edge.first_cycle), str(edge.last_cycle))
        for edge in summary.edges
    ]


def edges_text(summary: Summary) -> str:
    """Return every edge with its beats and cycles."""
    return table_text(EDGE_COLUMNS, edge_rows(summary), right=(4, 5, 6))


def waterfall_text(summary: Summary) -> str:
    """Return where each cycle goes, as bars."""
    total = max(1, summary.latency_cycles)
    rows = []
    for share in summary.path:
        left = round(BAR * share.start_cycle / total)
        width = max(1, round(BAR * (share.start_cycle + share.cycles) / total) - left)
        rows.append((share.what, share.fpga, str(share.start_cycle), str(share.cycles), " " * left + "#" * width))
    rows.append(("all", "", "", str(sum(share.cycles for share in summary.path)), ""))
    return table_text(("where the cycles go", "FPGA", "from", "cycles", ""), rows, right=(2, 3))


def resources_text(summary: Summary) -> str:
    """Return estimated resources of every FPGA against its budget."""
    names = used_resources(summary)
    rows = []
    for fpga in summary.fpgas:
        cells = []
        for name in names:
            used = count_text(fpga.used[name])
            cells.append(f"{used} = {100 * fpga.ratio(name):.1f} %" if fpga.budget[name] else "none there")
        rows.append((fpga.name, fpga.board, fpga.part, *cells))
    columns = ("FPGA", "board", "part", *(f"{RESOURCE_TITLES[name]} of budget" for name in names))
    return table_text(columns, rows, right=range(3, 3 + len(names)))


def regions_text(summary: Summary) -> str:
    """Return a line for each FPGA of several dies: its regions in use, the fullest resource of each, and crossings."""
    lines = []
    for fpga in summary.fpgas:
        rows = [row for row in summary.regions if row.fpga == fpga.name and any(row.used.values())]
        if not rows:
            continue
        crossings = [row for row in summary.crossings if row.fpga == fpga.name]
        crossed = "no crossings"
        if crossings:
            bits, cycles = sum(row.bits for row in crossings), max(row.cycles for row in crossings)
            crossed = (
                f"{len(crossings)} crossing{'s' if len(crossings) > 1 else ''}, {bits:,} bits, {cycles} cycles each"
            )
        lines.append(f"{fpga.name}: {', '.join(_region_words(row) for row in rows)}; {crossed}\n")
    return "".join([*lines, *(f"warning: {text}\n" for text in summary.cautions)])


def _region_words(row: RegionRow) -> str:
    worst = max((name for name in row.budget if row.budget[name]), key=row.ratio, default="lut")
    kernels = f"{len(row.kernels)} kernel{'' if len(row.kernels) == 1 else 's'}"
    return f"{row.name} {kernels} ({RESOURCE_TITLES[worst]} {100 * row.ratio(worst):.1f} %)"


def links_text(summary: Summary) -> str:
    """Return what the links carry and when."""
    rows = [
        (
            link.name,
            f"{link.lanes} of {link.lanes_there}",
            str(link.words),
            f"{link.bits:,} of {link.capacity_bits:,}",
            str(link.send_cycle),
            str(link.latency_cycles),
            link.raw_ns,
        )
        for link in summary.links
    ]
    columns = ("link", "lanes", "words", "payload bits", "sent at", "latency", "raw latency [ns]")
    return table_text(columns, rows, right=(2, 3, 4, 5))


WORDS_COLUMNS = ("words", "lanes", "words a lane", "bits", "first at", "last at")


def words_rows(summary: Summary) -> list[tuple[str, ...]]:
    """Return a row for inputs that come, and for results that leave, as words, in the order of WORDS_COLUMNS."""
    return [
        (
            row.name,
            str(row.lanes),
            str(row.words),
            f"{row.bits:,} of {row.capacity_bits:,}",
            str(row.first_cycle),
            str(row.last_cycle),
        )
        for row in summary.words
    ]


def quantization_rows(quantization: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row per layer: widths, signal-to-quantization-noise ratio, saturations."""
    rows: list[tuple[str, ...]] = []
    for layer in quantization["layers"]:
        sign = "s" if layer["signed"] else "u"
        rows.append(
            (
                layer["layer"],
                layer["kind"],
                "" if layer["weight_bits"] is None else f"s{layer['weight_bits']}.{layer['weight_frac']}",
                "" if layer["accumulator_bits"] is None else str(layer["accumulator_bits"]),
                f"{sign}{layer['bits']}.{layer['frac']}",
                "exact" if layer["sqnr_db"] is None else f"{layer['sqnr_db']:.1f}",
                f"{layer['saturated']:,} of {layer['values']:,}" if layer["values"] else "",
                "" if layer["table_entries"] is None else str(layer["table_entries"]),
            )
        )
    return rows


QUANTIZATION_COLUMNS = ("layer", "kind", "weights", "sum bits", "result", "SQNR [dB]", "saturated", "table")


OUTPUT_COLUMNS = ("output", "SQNR [dB]", "median event", "worst 1 % of events", "worst element", "judged by")


def output_rows(quantization: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row per output, in the order of OUTPUT_COLUMNS: what is left of its signal, on how many events."""
    rows: list[tuple[str, ...]] = []
    for output in quantization["outputs"]:
        signal = Signal.from_json(output)
        total = "exact" if output["sqnr_db"] is None else f"{output['sqnr_db']:.1f}"
        if signal is None:
            rows.append((output["name"], total, "", "", "", ""))
            continue
        judged = judging_words(signal.events, unseen=bool(quantization["unseen"]))
        if signal.decision:
            same = signal.words() if signal.differing else "all decisions are the same"
            rows.append((output["name"], total, "", "", same, judged))
            continue
        ratios = ["exact" if x is None else f"{x:.1f}" for x in (signal.median_db, signal.worst_db, signal.element_db)]
        worst = f"{ratios[2]}, {element_name(signal.element)}" if signal.element_db is not None else ratios[2]
        rows.append((output["name"], total, *ratios[:2], worst, judged))
    return rows


def quantization_text(summary: Summary) -> str:
    """Return what quantization cost, layer by layer, in the outputs and in the metric; empty for a plan alone."""
    quantization = summary.quantization
    if quantization is None:
        return ""
    table = table_text(QUANTIZATION_COLUMNS, quantization_rows(quantization), right=(3, 5, 6, 7))
    outputs = table_text(OUTPUT_COLUMNS, output_rows(quantization), right=(1, 2, 3))
    warnings = "".join(f"{line}\n" for line in warning_lines(summary))
    return f"{table}{outputs}{metric_line(summary)}\n{warnings}"


def metric_line(summary: Summary) -> str:
    """Return one line on the effect of quantization on the user's metric."""
    metric = summary.manifest.get("metric")
    if metric is not None:
        return _metric_words(metric)
    outputs = summary.quantization["outputs"] if summary.quantization else []
    if any(output["decides"] for output in outputs):
        return "no metric: the signal of the outputs decides"
    return "no metric: layers held exactly are compared exactly, which decides; a poor signal is a warning"


def warning_lines(summary: Summary) -> list[str]:
    """Return the warnings of the quantization, a text for each."""
    quantization = summary.quantization or {}
    return [f"warning: {text}" for text in quantization.get("warnings", ())]


VERDICT_COLUMNS = ("rung", "compared", "verdict", "events", "bits", "wrong bits", "cycle promised", "observed")


def verdict_rows(summary: Summary) -> list[tuple[str, ...]]:
    """Return a row per verdict, in the order of VERDICT_COLUMNS."""
    rows: list[tuple[str, ...]] = []
    for verdict in summary.verdicts:
        ran = verdict.status is not Status.NOT_RUN
        promised, observed = verdict.cycles_promised, ""
        if promised is not None:
            low, high = verdict.cycles_observed_min, verdict.cycles_observed_max
            observed = str(low) if low == high else f"{low} to {high}"
        exact, compares = verdict.rung > 1, ran and verdict.rung != STATIC_RUNG
        rows.append(
            (
                str(verdict.rung),
                verdict.name,
                verdict.status.words,
                f"{verdict.events:,}" if compares else "",
                f"{verdict.bits:,}" if compares else "",
                (f"{verdict.mismatches:,}" if exact else "measured") if compares else "",
                "" if promised is None else str(promised),
                observed,
            )
        )
    return rows


def verdicts_text(summary: Summary) -> str:
    """Return the verdict of every rung, and why a rung failed or was not run."""
    if not summary.verdicts:
        return ""
    text = table_text(VERDICT_COLUMNS, verdict_rows(summary), right=range(3, 8))
    return text + "".join(f"{note}\n" for note in (*measured_lines(summary), *verdict_notes(summary)))


def changed_words(summary: Summary) -> str:
    """Return which files are not as they were compiled, and what that means, or nothing."""
    return f"is not as it was compiled, the verdicts are not about it: {summary.changed}" if summary.changed else ""


def measured_lines(summary: Summary) -> list[str]:
    """Return what rung 1 measured on its events: the metric and the signal of every output, a line each."""
    lines = []
    for verdict in summary.verdicts:
        measured = f"rung {verdict.rung} measured: "
        if verdict.measured.get("metric"):
            lines.append(measured + _metric_words(verdict.measured["metric"]))
        for output in verdict.measured.get("outputs", ()):
            signal = Signal.from_json(output)
            if signal is not None:
                lines.append(f"{measured}{output['name']} {signal.words()} on {signal.events:,} events")
    return lines


def _metric_words(metric: Mapping[str, Any]) -> str:
    verdict = "within" if metric["accepted"] else "beyond"
    return (
        f"{metric['name']}: {metric['float_value']:.4f} float, {metric['fixed_value']:.4f} fixed point on "
        f"{metric['events']:,} events: loss {100 * metric['loss']:.2f} %, {verdict} {100 * metric['tolerance']:g} %"
    )


def verdict_notes(summary: Summary) -> list[str]:
    """Return why rungs failed or were not run, and what static checks read, one line for each reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for verdict in summary.verdicts:
        if verdict.first:
            reasons.setdefault((verdict.status.words, verdict.first), []).append(str(verdict.rung))
    return [
        f"rung{'s' if len(rungs) > 1 else ''} {', '.join(dict.fromkeys(rungs))} {status}: {reason}"
        for (status, reason), rungs in reasons.items()
    ]


def promise_text(summary: Summary) -> str:
    """Return the promise in one line."""
    return (
        f"promise: the answer {summary.latency_cycles} cycles = {summary.latency_ns:.1f} ns after the event, an event "
        f"every {summary.ii_cycles} cycles = {summary.nanoseconds(summary.ii_cycles):.1f} ns\n"
    )
