"""Wider formats where the signal needs them: the layers that cause the noise, by what they cause."""

from __future__ import annotations

import glob
import math
from collections.abc import Mapping
from dataclasses import dataclass

from metronn.ir.names import toml_key, toml_string
from metronn.quantize.calibrated.contributions import Site
from metronn.quantize.calibrated.lowering import Lowering
from metronn.quantize.options import InputOptions, LayerOptions, QuantizeOptions

WIDEST = 26
"""No automatic width is wider: the wide port of a multiplier has 27 bits."""
BITS_DB = 20 * math.log10(2)
"""What one more bit gains."""


@dataclass(frozen=True, slots=True)
class Widths:
    """Widths chosen beyond those of the options, by site."""

    bits: Mapping[Site, int]

    def applied(self, options: QuantizeOptions) -> QuantizeOptions:
        """Return options with these widths: the layers' behind all patterns, so that they win."""
        layers = dict(options.layers)
        for site, bits in self.bits.items():
            if site.kind in ("weight", "activation"):
                key = glob.escape(site.layer)
                layers[key] = layers.pop(key, LayerOptions()).model_copy(update={f"{site.kind}_bits": bits})
        inputs = dict(options.inputs)
        inputs |= {site.layer: InputOptions(bits=bits) for site, bits in self.bits.items() if site.kind == "input"}
        outputs = [bits for site, bits in self.bits.items() if site.kind == "output"]
        return options.model_copy(
            update={"layers": layers, "inputs": inputs, "output_bits": max([options.output_bits, *outputs])}
        )

    def words(self) -> str:
        """Return the widths as a user writes them, without the table's name."""
        parts = [
            f"inputs.{toml_key(s.layer)} = {{bits = {b}}}" for s, b in sorted(self.bits.items()) if s.kind == "input"
        ]
        for layer in dict.fromkeys(s.layer for s in sorted(self.bits) if s.kind in ("weight", "activation")):
            own = ", ".join(f"{s.kind}_bits = {b}" for s, b in sorted(self.bits.items()) if s.layer == layer)
            parts.append(f"layers.{toml_string(glob.escape(layer))} = {{{own}}}")
        outputs = [b for s, b in self.bits.items() if s.kind == "output"]
        return ", ".join(parts + ([f"output_bits = {max(outputs)}"] if outputs else []))


def present_bits(lowering: Lowering, site: Site) -> int:
    """Return the width that a site has now."""
    options = lowering.options
    match site.kind:
        case "input":
            return lowering.emitter.type_of(site.layer).range.width_bits
        case "output":
            return options.output_bits
        case "weight":
            return options.layer(site.layer).weight_bits
        case _:
            return options.layer(site.layer).activation_bits


def is_given(options: QuantizeOptions, site: Site) -> bool:
    """Tell whether the user gave the width of a site: then it is kept."""
    if site.kind == "input":
        return options.input != "auto" or site.layer in options.inputs
    if site.kind == "output":
        return "output_bits" in options.model_fields_set
    return options.gives(f"{site.kind}_bits", site.layer)


def more_bits(
    noise: Mapping[Site, float], present: Mapping[Site, int], gain_db: float, fixed: frozenset[Site]
) -> dict[Site, int]:
    """Return the wider widths after which the noise of all sites is less by `gain_db`.

    Every bit more takes three quarters of a site's noise. Bits go where noise is: no site is left with more than a
    common level, the highest that does. Sites in `fixed` keep their width.
    """
    free = {site: level for site, level in noise.items() if site not in fixed and level > 0}
    if not free:
        return {}
    allowed = sum(noise.values()) * 10 ** (-gain_db / 10)
    room = max(allowed - sum(noise[site] for site in noise if site not in free), allowed / 4)
    level = max(free.values())
    while sum(min(own, level) for own in free.values()) > room and level > 0:
        level /= 2
    bits = {}
    for site, own in free.items():
        if own > level:
            wanted = present[site] + math.ceil(math.log2(own / level) / 2)
            if min(WIDEST, wanted) > present[site]:
                bits[site] = min(WIDEST, wanted)
    return bits
