"""The clusters of a fold: a module for each kind, and the sums of their groups joined to one vector."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from metronn.emit.rtl.kernels.folds.common import ModuleText, Operand, described, literal, part, products, sum_stage
from metronn.emit.rtl.kernels.folds.phases import by_phase, phase_bits, phase_counter, replicas
from metronn.plan.kernels.folds.clusters import Cluster, clusters_of, lanes_of_copy
from metronn.plan.kernels.folds.sites import Sites


class Feed(enum.Enum):
    """How a cluster takes its inputs: a beat of each event and keeps it, or one every cycle of an event."""

    KEPT = "The inputs of phase 0, kept until the next event."
    EACH = "The inputs of this phase."


@dataclass(slots=True)
class ClusterModules:
    """The modules of a kernel's clusters, equal ones once."""

    name: str
    _by_text: dict[tuple[str, ...], str] = field(default_factory=dict)
    _texts: list[str] = field(default_factory=list)

    def add(self, module: ModuleText) -> str:
        """Return the name of the module with this body; it is kept if it is new."""
        key = (*module.comment, *module.lines)
        if key not in self._by_text:
            module.name = f"{self.name}_cluster_{len(self._by_text)}"
            self._by_text[key] = module.name
            self._texts.append(module.text())
        return self._by_text[key]

    def text(self) -> str:
        """Return all modules."""
        return "".join(f"\n{text}" for text in self._texts)


def cluster_module(cluster: Cluster, x: Operand, feed: Feed, *, steps: bool = False, block: bool = False) -> ModuleText:
    """Return the module of a cluster, its name still open: inputs at `x0_i`, sums of groups [pair][group] at `y_o`.

    `start_i` is high in the cycle of an event's first beat; with `steps` in that of each beat. In block RAM (`block`)
    the weights come a cycle later.
    """
    sites, pack, found = cluster.sites, cluster.sites.pack, cluster.patterns
    pairs, inputs = sites.shape
    terms = len(cluster.groups)
    bits, beats = inputs * x.bits, len(sites.words)
    total = pack.sum_bits if pack.group > 1 else pack.product_bits
    contract = (
        f"Cluster of a fold: {described(sites)}; {pairs} x {inputs} pairs of lanes x inputs, {beats} phases.",
        f"Sums of groups {2 + pack.in_blocks + (pack.group > 1) + block} cycles after the inputs.",
    )
    module = ModuleText("", contract, bits, pairs * terms * total, attributes='keep_hierarchy = "yes"')
    kept = feed is Feed.KEPT and beats > 1
    if beats > 1 and (block or kept or len(found.values)):
        phase_counter(module, "phase", beats, "start_i", int(block), steps=steps)
    module.add(f"// {feed.value}", f'(* extract_reset = "no", shreg_extract = "no" *) logic [{bits - 1}:0] x_q;')
    if kept:
        each = lanes_of_copy(x.bits)  # all bits of an input: registers of a DSP block's port have one enable
        replicas(module, "take", f"phase_d == {phase_bits(beats)}'d0", -(-inputs // each))
        taken = f"{part('x_q', 'k', x.bits)} <= {part('x0_i', 'k', x.bits)};"
        module.clocked(f"for (int k = 0; k < {inputs}; k++)", f"  if (take[k / {each}]) {taken}")
    elif block:
        module.add(f"logic [{bits - 1}:0] x_1_q;")
        module.clocked("x_1_q <= x0_i;", "x_q <= x_1_q;")
    else:
        module.clocked("x_q <= x0_i;")
    module.unused += ["x_q", "weight_q"]
    _weights(module, cluster, block=block)
    products(module, "product", sites, x, "x_q", "weight_q")
    source = "product"
    if pack.group > 1:
        sum_stage(module, source, "group", pairs, inputs, pack.group, pack.sum_bits)
        source = "group"
    module.add("always_comb", f"  for (int k = 0; k < {pairs * terms}; k++) {part('y_o', 'k', total)} = {source}[k];")
    return module


def _weights(module: ModuleText, cluster: Cluster, *, block: bool) -> None:
    """Declare register `weight_q`, loaded with the packed weights of the phase."""
    sites, found = cluster.sites, cluster.patterns
    width = found.bits.size
    phases = sites.codes.reshape(len(sites.codes), -1)
    module.add(f"// Packed weights of the phase: {len(found.values)} of {width} bits differ.")
    if len(phases) == 1:
        word = literal([int(code) for code in phases[0]], sites.pack.weight_bits)
        module.add(f"wire [{width - 1}:0] weight_q = {word};", "")
    elif block:
        bits = phase_bits(len(phases))
        words = [literal([int(code) for code in row], sites.pack.weight_bits) for row in phases]
        module.add(
            f'(* rom_style = "block" *) logic [{width - 1}:0] weight_read_q;', f"logic [{width - 1}:0] weight_q;"
        )
        cases = [f"  {bits}'d{k}: weight_read_q <= {word};" for k, word in enumerate(words[:-1])]
        module.clocked("unique case (phase)", *cases, f"  default: weight_read_q <= {words[-1]};", "endcase")
        module.clocked("weight_q <= weight_read_q;")
    else:
        module.add(f'(* extract_reset = "no", shreg_extract = "no" *) logic [{width - 1}:0] weight_q;')
        by_phase(module, "weight_q", found, "phase_q", clocked=True)


def joined_clusters(
    module: ModuleText,
    modules: ClusterModules,
    prefix: str,
    sites: Sites,
    x: Operand,
    inputs: str,
    start: str,
    feed: Feed,
    *,
    steps: bool = False,
    block: bool = False,
) -> tuple[str, int, int]:
    """Instantiate the clusters of an array; return its sums [pair][group] as an array, groups in a pair, bits of each.

    `inputs` is the vector of the array's inputs. What no cluster makes is the sum of nothing.
    """
    pack = sites.pack
    pairs, places = sites.shape
    terms = -(-places // pack.group)
    bits = pack.sum_bits if pack.group > 1 else pack.product_bits
    count, joined = pairs * terms, f"{prefix}_group"
    filled = [f"for (int k = 0; k < {count}; k++) {joined}[k] = {bits}'d{pack.half};"]
    for number, cluster in enumerate(clusters_of(sites)):
        made = modules.add(cluster_module(cluster, x, feed, steps=steps, block=block))
        net, groups = f"{prefix}_{number}", len(cluster.groups)
        low, width = cluster.places.start * x.bits, len(cluster.places) * x.bits
        module.add(
            f"wire [{len(cluster.pairs) * groups * bits - 1}:0] {net};",
            f"{made} u_{net} (",
            "  .clk_i(clk_i),",
            "  .rst_i(rst_i),",
            f"  .start_i({start}),",
            f"  .x0_i({inputs}[{low} +: {width}]),",
            f"  .y_o({net})",
            ");",
        )
        filled += [
            f"for (int k = 0; k < {len(cluster.pairs)}; k++)",
            f"  for (int g = 0; g < {groups}; g++)",
            f"    {joined}[(k+{cluster.pairs[0]})*{terms}+g+{cluster.groups[0]}] = {part(net, f'k*{groups}+g', bits)};",
        ]
    module.array(joined, bits, count)
    module.add("always_comb begin", *(f"  {line}" for line in filled), "end", "")
    return joined, terms, bits
