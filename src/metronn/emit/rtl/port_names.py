"""Port names of the network's inputs and outputs, kept apart from every other name in the top modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from metronn.emit.rtl.text import identifier
from metronn.emit.tops import top_name
from metronn.plan.design import Design

_OWN = re.compile(
    r"(clk|rst|valid|error|bc0|clear|lane|aligned|crc_errors|alignment_losses|early_starts)_[io]|"
    r"(raw_latency|slip|flip|dead|aligned|crc_errors|alignment_losses)_\d+_[io]|_.*"
)
"""Ports that tops have of their own, on any system, and names that simulators keep for themselves."""


WORDS_IN, WORDS_OUT = "words_i", "words_o"
"""Ports of inputs that come, and of results that leave, as words; other ports may have these names where none do."""


@dataclass(frozen=True, slots=True)
class PortNames:
    """The port of each input and output of the network, by its name, and what it is called by where all are words."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def port_names(design: Design) -> PortNames:
    """Return `<name>_i` for inputs and `<name>_o` for outputs; where that is taken, `net_<name>_i` or `_o`."""
    inside = {f"s_{signal.name}" for fpga in design.fpgas for signal in fpga.signals}
    inside |= {f"u_{top_name(fpga.name)}" for fpga in design.fpgas}
    inside |= {WORDS_IN} if design.fpgas[0].enters else set()
    inside |= {WORDS_OUT} if design.fpgas[-1].leaves else set()
    return PortNames(
        _claimed([node.name for node in design.graph.inputs], "_i", inside),
        _claimed([output.name for output in design.graph.outputs], "_o", inside),
    )


def _claimed(names: Iterable[str], suffix: str, inside: set[str]) -> dict[str, str]:
    """Give every name a port of its own; what can keep its plain name does."""
    found: dict[str, str] = {}
    taken = set(inside)
    for plain in (True, False):
        for name in names:
            port = f"{identifier(name)}{suffix}"
            if plain and (port in taken or _OWN.fullmatch(port)):
                continue
            while not plain and (port in taken or _OWN.fullmatch(port)):
                port = f"net{port}" if port.startswith("_") else f"net_{port}"
            if name not in found:
                found[name] = port
                taken.add(port)
    return {name: found[name] for name in names}
