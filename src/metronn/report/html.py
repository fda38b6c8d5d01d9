"""report.html: one file with everything inline. Same build, same bytes."""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from html import escape

from metronn import __version__
from metronn.report.picture import Picture
from metronn.report.static import MODEL, STATIC_COLUMNS, left_out_words, static_rows
from metronn.report.summary import RESOURCE_TITLES, Summary, count_text, used_resources
from metronn.report.svg import COLOURS, LINK_COLOUR, Bar, bar_plot
from metronn.report.text import (
    EDGE_COLUMNS,
    OUTPUT_COLUMNS,
    QUANTIZATION_COLUMNS,
    VERDICT_COLUMNS,
    WORDS_COLUMNS,
    changed_words,
    edge_rows,
    measured_lines,
    metric_line,
    output_rows,
    quantization_rows,
    verdict_notes,
    verdict_rows,
    warning_lines,
    words_rows,
)
from metronn.verify.verdict import Status

STYLE = """
:root { color-scheme: light; --ink: #1d242b; --soft: #5c6873; --line: #d9dfe5; --ground: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--ink); background: #fff; }
main { max-width: 1040px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; margin: 0 0 2px; }
h2 { font-size: 18px; margin: 38px 0 10px; padding-top: 14px; border-top: 1px solid var(--line); }
p { margin: 6px 0; } .soft { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; margin: 20px 0 4px; }
.card { background: var(--ground); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.card b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; white-space: nowrap; }
.card span { color: var(--soft); font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: 4px 10px 4px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.note { white-space: normal; color: var(--soft); }
.r { text-align: right; } .r + :not(.r) { padding-left: 16px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12.5px; color: var(--soft); margin: 8px 0; }
.pass, .fail, .notrun { font-weight: 600; padding: 1px 8px; border-radius: 10px; }
.pass { background: #dcf1e2; color: #1d6b38; } .fail { background: #f9dcd7; color: #a12a17; }
.notrun { background: #ececec; color: #555; }
.plot { width: 100%; height: auto; margin: 4px 0; }
.plot text { font-size: 12px; fill: var(--ink); dominant-baseline: middle; }
.plot .name { text-anchor: end; } .plot .tick { text-anchor: middle; fill: var(--soft); }
.plot .grid { stroke: #e7ebef; } .plot .mark { stroke: #a12a17; stroke-dasharray: 4 3; }
.plot .marktext { fill: #a12a17; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin: 0 5px 0 14px; }
figure { margin: 14px 0; } figure img { max-width: 100%; border: 1px solid var(--line); }
figcaption { color: var(--soft); font-size: 13px; }
"""


def report_html(summary: Summary, pictures: Sequence[Picture] = ()) -> str:
    """Return the report of a build."""
    name = escape(summary.name)
    sections = [
        _head(summary),
        _verdicts(summary),
        _latency(summary),
        _resources(summary),
        _regions(summary),
        _static(summary),
        _links(summary),
        _words(summary),
        _quantization(summary),
        _plan(summary),
        _ports(summary),
        _pictures(pictures),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{name}: metronn</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in sections if part)
        + f'\n<p class="soft">metronn {__version__}, graph {escape(str(summary.manifest.get("graph_hash", "")))}</p>\n'
        "</main>\n</body>\n</html>\n"
    )


def table_html(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Return an HTML table of plain texts."""

    def cell(tag: str, k: int, text: str) -> str:
        return f"<{tag}{' class=r' if k in right else ''}>{text}</{tag}>"

    head = "".join(cell("th", k, escape(text)) for k, text in enumerate(columns))

    def shown(text: str) -> str:
        return text if text.startswith("<span") else escape(text)

    body = "\n".join(
        "<tr>" + "".join(cell("td", k, shown(text)) for k, text in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _head(summary: Summary) -> str:
    verdicts = summary.verdicts
    passed = sum(verdict.status is Status.PASS for verdict in verdicts)
    failed = sum(verdict.status is Status.FAIL for verdict in verdicts)
    state = f"{failed} failed" if failed else f"{passed} of {len(verdicts)}"
    worst = max(
        ((fpga.ratio(name), RESOURCE_TITLES[name], fpga.name) for fpga in summary.fpgas for name in fpga.used),
        key=lambda item: item[0],
    )
    cards = [
        (f"{summary.latency_cycles} cycles", f"promised, {summary.latency_ns:.1f} ns"),
        (f"II {summary.ii_cycles}", f"an event every {summary.nanoseconds(summary.ii_cycles):.1f} ns"),
        (f"{summary.clock_mhz:g} MHz", f"{len(summary.fpgas)} FPGA{'s' if len(summary.fpgas) > 1 else ''}"),
        (f"{100 * worst[0]:.1f} %", f"highest use of a budget: {worst[1]} of {worst[2]}"),
        (state, "verdicts passed" if not failed else "verdicts"),
    ]
    shown = "\n".join(f'<div class="card"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in cards)
    return (
        f"<h1>{escape(summary.name)}</h1>\n<p class=soft>on {escape(summary.system)}</p>\n"
        f'<div class="cards">\n{shown}\n</div>'
    )


def _verdicts(summary: Summary) -> str:
    if not summary.verdicts:
        return ""
    rows = []
    for row in verdict_rows(summary):
        kind = row[2].replace(" ", "")
        rows.append((*row[:2], f'<span class="{kind}">{row[2]}</span>', *row[3:]))
    notes = "\n".join(f"<pre>{escape(note)}</pre>" for note in (*measured_lines(summary), *verdict_notes(summary)))
    changed = f'<p class="fail">This build {escape(changed_words(summary))}</p>\n' if summary.changed else ""
    return f"<h2>Verification</h2>\n{changed}{table_html(VERDICT_COLUMNS, rows, right=range(3, 8))}\n{notes}"


def _colours(summary: Summary) -> dict[str, str]:
    return {fpga.name: COLOURS[k % len(COLOURS)] for k, fpga in enumerate(summary.fpgas)}


def _latency(summary: Summary) -> str:
    colours = _colours(summary)
    bars = [
        Bar(
            label=share.what,
            start=share.start_cycle,
            end=share.start_cycle + share.cycles,
            colour=colours.get(share.fpga, LINK_COLOUR),
            text=str(share.cycles),
        )
        for share in summary.path
    ]
    keys = "".join(
        f'<span class="key" style="background:{colour}"></span>{escape(name)}' for name, colour in colours.items()
    )
    if summary.links:
        keys += f'<span class="key" style="background:{LINK_COLOUR}"></span>links'
    plot = bar_plot(bars, end=max(1, summary.latency_cycles), unit="cycle") if bars else ""
    total = sum(share.cycles for share in summary.path)
    return (
        f"<h2>Where the cycles go</h2>\n<p>The path that decides the latency: {total} cycles. A layer counts until the "
        f"next one starts.</p>\n<p class=soft>{keys}</p>\n{plot}"
    )


def _resources(summary: Summary) -> str:
    names = used_resources(summary)
    colours = _colours(summary)
    bars = [
        Bar(
            label=f"{fpga.name}  {RESOURCE_TITLES[name]}",
            start=0,
            end=100 * fpga.ratio(name),
            colour=colours[fpga.name],
            text=f"{100 * fpga.ratio(name):.1f} %",
        )
        for name in names
        if any(fpga.used[name] for fpga in summary.fpgas)
        for fpga in summary.fpgas
        if fpga.budget[name]
    ]
    rows = [
        (fpga.name, fpga.board, fpga.part)
        + tuple(f"{count_text(fpga.used[name])} of {count_text(fpga.budget[name])}" for name in names)
        for fpga in summary.fpgas
    ]
    columns = ("FPGA", "board", "part", *(RESOURCE_TITLES[name] for name in names))
    plot = bar_plot(bars, end=100, unit="% of what the network may use")
    return f"<h2>Resources, estimated</h2>\n{table_html(columns, rows, right=range(3, len(columns)))}\n{plot}"


def _regions(summary: Summary) -> str:
    cautions = "".join(f"<p>Warning: {escape(text)}</p>\n" for text in summary.cautions)
    if not summary.regions:
        return f"<h2>Boards</h2>\n{cautions}" if cautions else ""
    names = [name for name in used_resources(summary) if any(row.used[name] for row in summary.regions)]
    colours = _colours(summary)
    rows = [
        (row.fpga, row.name)
        + tuple(f"{count_text(row.used[name])} = {100 * row.ratio(name):.1f} %" for name in names)
        + (", ".join(row.kernels) or "none",)
        for row in summary.regions
    ]
    bars = []
    for row in summary.regions:
        if any(row.used.values()):
            worst = max((name for name in row.budget if row.budget[name]), key=row.ratio)
            share = 100 * row.ratio(worst)
            label = f"{row.fpga}  {row.name}  {RESOURCE_TITLES[worst]}"
            bars.append(Bar(label=label, start=0, end=share, colour=colours[row.fpga], text=f"{share:.1f} %"))
    columns = ("FPGA", "region", *(f"{RESOURCE_TITLES[name]} of budget" for name in names), "kernels")
    plot = bar_plot(bars, end=100, unit="% of what the network may use of the region, fullest resource")
    crossings = [
        (row.fpga, row.value, f"{row.left} to {row.reached}", f"{row.bits:,}", str(row.cycles))
        for row in summary.crossings
    ]
    table = (
        table_html(("FPGA", "value", "crosses from", "bits", "cycles"), crossings, right=(3, 4)) if crossings else ""
    )
    return (
        f"<h2>Super logic regions</h2>\n{cautions}{table_html(columns, rows, right=range(2, 2 + len(names)))}\n{plot}\n"
        f"{table}"
    )


def _static(summary: Summary) -> str:
    rows = static_rows(summary)
    if not rows:
        return ""
    table = table_html(STATIC_COLUMNS, rows, right=range(2, len(STATIC_COLUMNS)))
    left = left_out_words(summary)
    return f"<h2>Netlists</h2>\n<p>{escape(MODEL)} {escape(left)}</p>\n{table}"


def _links(summary: Summary) -> str:
    if not summary.links:
        return ""
    rows = [
        (
            link.name,
            f"{link.lanes} of {link.lanes_there}",
            str(link.words),
            f"{link.bits:,} of {link.capacity_bits:,}",
            str(link.send_cycle),
            f"{link.latency_cycles} cycles = {summary.nanoseconds(link.latency_cycles):.1f} ns",
            link.raw_ns,
        )
        for link in summary.links
    ]
    columns = ("link", "lanes", "words a lane", "payload bits", "sent at cycle", "fixed latency", "raw latency [ns]")
    return f"<h2>Links</h2>\n{table_html(columns, rows, right=range(1, 7))}"


def _words(summary: Summary) -> str:
    if not summary.words:
        return ""
    return f"<h2>Words of inputs and results</h2>\n{table_html(WORDS_COLUMNS, words_rows(summary), right=range(1, 6))}"


def _quantization(summary: Summary) -> str:
    quantization = summary.quantization
    if quantization is None:
        return ""
    bars = [
        Bar(
            label=layer["layer"],
            start=0,
            end=max(0.0, layer["sqnr_db"]),
            colour=COLOURS[0],
            text=f"{layer['sqnr_db']:.1f}",
        )
        for layer in quantization["layers"]
        if layer["sqnr_db"] is not None
    ]
    end = max([10.0, *(bar.end for bar in bars)])
    plot = bar_plot(bars, end=end, unit="signal-to-quantization-noise ratio [dB]") if bars else ""
    table = table_html(QUANTIZATION_COLUMNS, quantization_rows(quantization), right=(3, 5, 6, 7))
    outputs = table_html(OUTPUT_COLUMNS, output_rows(quantization), right=(1, 2, 3))
    warnings = "\n".join(f"<pre>{escape(line)}</pre>" for line in warning_lines(summary))
    return (
        f"<h2>Quantization</h2>\n<p>{escape(metric_line(summary))}</p>\n{warnings}\n{outputs}\n{table}\n{plot}\n"
        f"<p class=soft>Widths: s8.6 is signed, 8 bits, a step of 2<sup>-6</sup>. Layers are compared with the trained "
        f"network on {quantization['calibration_events']:,} calibration events.</p>"
    )


def _plan(summary: Summary) -> str:
    colours = _colours(summary)
    rows = [
        (
            kernel.layer,
            kernel.kind,
            kernel.fpga,
            str(kernel.start_cycle),
            str(kernel.latency_cycles),
            kernel.beats,
            *(count_text(kernel.resources[name]) for name in used_resources(summary)),
        )
        for kernel in summary.kernels
    ]
    names = tuple(RESOURCE_TITLES[name] for name in used_resources(summary))
    columns = ("layer", "kernel", "FPGA", "start", "latency", "puts out", *names)
    bars = [
        Bar(
            label=kernel.name,
            start=kernel.start_cycle,
            end=kernel.start_cycle + kernel.latency_cycles,
            tail=kernel.start_cycle + kernel.latency_cycles + kernel.span - 1,
            colour=colours[kernel.fpga],
        )
        for kernel in summary.kernels
    ]
    edges = table_html(EDGE_COLUMNS, edge_rows(summary), right=(4, 5, 6))
    end = max([summary.latency_cycles, 1, *(int(bar.tail or 0) for bar in bars)])
    marks = [(summary.latency_cycles, "promise")]
    right = (3, 4, *range(6, len(columns)))
    return (
        f"<h2>Plan</h2>\n{table_html(columns, rows, right=right)}\n"
        f"<p>Every kernel from its first input beat to its first output beat; pale: further beats it puts out.</p>\n"
        f"{bar_plot(bars, end=end, unit='cycle', marks=marks)}\n<h2>Edges</h2>\n"
        f"<p>Every value on wires: its beats and the cycles of the first and the last one.</p>\n{edges}"
    )


def _ports(summary: Summary) -> str:
    rows = []
    for side in ("inputs", "outputs"):
        for port in summary.manifest.get(side, ()):
            frac = port["frac"]
            shown = str(frac) if isinstance(frac, int) else f"{min(frac)} to {max(frac)}, per element"
            shape = "x".join(map(str, port["shape"])) or "scalar"
            rows.append((side[:-1], port["name"], shape, str(port["width"]), shown, "yes" if port["signed"] else "no"))
    if not rows:
        return ""
    columns = ("", "name", "shape", "bits", "fraction bits", "signed")
    return f"<h2>Inputs and outputs</h2>\n{table_html(columns, rows, (3, 4))}"


def _pictures(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    shown = "\n".join(
        f'<figure><img alt="{escape(picture.title)}" src="data:{picture.media};base64,'
        f'{base64.b64encode(picture.content).decode()}"><figcaption>{escape(picture.title)}</figcaption></figure>'
        for picture in pictures
    )
    return f"<h2>Pictures</h2>\n{shown}"
