"""`metronn boards`: the boards and systems a network can be planned for."""

from __future__ import annotations

from metronn.cli import options
from metronn.cli.console import handled, say, say_json
from metronn.plan.hardware.system import board_table, list_systems, load_system
from metronn.report.tables import table_text

BOARD_COLUMNS = ("board", "title", "device", "LUT", "FF", "DSP", "BRAM36", "URAM", "lanes", "Gb/s")
BOARD_KEYS = ("board", "title", "device", "lut", "ff", "dsp", "bram36", "uram", "lanes", "line_rate_gbps")
SYSTEM_COLUMNS = ("system", "title", "FPGAs", "MHz", "II", "lanes a link", "link [ns]")


@handled
def show_boards(json: options.Json = False) -> None:
    """List the boards with their devices' resources, and the systems made of them."""
    rows = board_table()
    systems = [load_system(name) for name in list_systems()]
    if json:
        records = [
            {
                "system": system.name,
                "title": system.title,
                "fpgas": [{"name": fpga.name, "board": fpga.board.name} for fpga in system.fpgas],
                "clock_mhz": system.clock_mhz,
                "ii": system.ii,
            }
            for system in systems
        ]
        say_json({"boards": rows, "systems": records})
        return
    say(table_text(BOARD_COLUMNS, [tuple(_cell(row[key]) for key in BOARD_KEYS) for row in rows], right=range(3, 10)))
    cells = []
    for system in systems:
        link = system.links[0] if system.links else None
        lanes = "" if link is None else str(link.lanes)
        delay = "" if link is None else f"{link.latency_min_ns:g} to {link.latency_max_ns:g}"
        count = str(len(system.fpgas))
        cells.append((system.name, system.title, count, f"{system.clock_mhz:g}", str(system.ii), lanes, delay))
    say("")
    say(table_text(SYSTEM_COLUMNS, cells, right=range(2, 7)))


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:,g}"
