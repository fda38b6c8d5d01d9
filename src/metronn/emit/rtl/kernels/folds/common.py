"""Parts that both folded kernels are written with: inputs, products, sums, adder trees.

What enters or leaves a module is a flat vector, element k of `bits` bits at [k*bits +: bits]. Products and sums are
unpacked arrays, term t of lane l at [l*terms+t]: simulators compile them ten times faster, and hardware is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from metronn.emit.rtl.text import module_text
from metronn.plan.kernels.folds.fold import Packing
from metronn.plan.kernels.folds.sites import Kind, Sites
from metronn.plan.layout import WireFormat


@dataclass(slots=True)
class ModuleText:
    """Collects the body of a kernel module with one input; `text` frames it.

    `unused` names nets of which some bits may have no reader: the linter is told so.
    """

    name: str
    comment: tuple[str, ...]
    x_bits: int
    y_bits: int
    attributes: str = ""
    lines: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=lambda: ["rst_i", "start_i"])

    def add(self, *lines: str) -> None:
        """Append body lines, indented by two."""
        self.lines.extend(f"  {line}" if line else "" for line in lines)

    def clocked(self, *statements: str) -> None:
        """Append an always_ff block."""
        self.add("always_ff @(posedge clk_i) begin", *(f"  {s}" for s in statements), "end", "")

    def array(self, name: str, bits: int, count: int, hint: str = "") -> None:
        """Declare an array of `count` elements of `bits` bits; `hint` is an attribute for synthesis."""
        self.add(f"{f'(* {hint} *) ' if hint else ''}logic [{bits - 1}:0] {name} [{count}];")

    def text(self) -> str:
        """Return the module."""
        return module_text(
            name=self.name,
            contract=self.comment,
            ports=(("x0_i", self.x_bits),),
            output=("y_o", self.y_bits),
            body=[line.rstrip() for line in self.lines],
            unused=list(dict.fromkeys(self.unused)),
            attributes=self.attributes,
        )


def literal(values: Sequence[int], bits: int) -> str:
    """Return a sized hexadecimal literal with value k of `bits` bits at [k*bits +: bits]."""
    mask = (1 << bits) - 1
    word = 0
    for value in reversed(values):
        word = (word << bits) | (value & mask)
    return f"{len(values) * bits}'h{word:x}"


def part(vector: str, index: str, bits: int) -> str:
    """Return one element of a flat vector."""
    return f"{vector}[({index})*{bits} +: {bits}]"


def signed_part(vector: str, index: str, bits: int, width: int) -> str:
    """Return one signed element of a flat vector, extended or truncated to `width` bits."""
    return f"{width}'($signed({part(vector, index, bits)}))"


@dataclass(frozen=True, slots=True)
class Operand:
    """Inputs as one uniform flat vector: `wire` from the port, elements of `bits` bits, signed or not."""

    bits: int
    signed: bool

    def multiplicand(self, vector: str, index: str) -> str:
        """Return the element as a signed expression."""
        return (
            f"$signed({part(vector, index, self.bits)})"
            if self.signed
            else (f"$signed({{1'b0, {part(vector, index, self.bits)}}})")
        )


def uniform_input(module: ModuleText, wires: WireFormat, pack: Packing) -> Operand:
    """Declare `x_in`: the input port with every slot at the same width."""
    module.unused.append("x_in")  # clusters leave out what meets weights of 0 alone
    count = len(wires.slots)
    if wires.uniform:
        first = wires.slots[0]
        module.add(f"wire [{wires.width - 1}:0] x_in = x0_i;", "")
        return Operand(first.width, first.signed)
    parts = []
    for slot in reversed(wires.slots):
        fill = pack.x_bits - slot.width
        top = f"x0_i[{slot.offset + slot.width - 1}]" if slot.signed else "1'b0"
        bits = f"x0_i[{slot.offset} +: {slot.width}]"
        parts.append(f"{{{fill}{{{top}}}}}, {bits}" if fill else bits)
    module.add(
        f"wire [{count * pack.x_bits - 1}:0] x_in = {{", *(f"  {p}," for p in parts[:-1]), f"  {parts[-1]}", "};", ""
    )
    return Operand(pack.x_bits, signed=True)


def phase_bits(beats: int) -> int:
    """Bits of a phase counter that counts to beats - 1."""
    return max(1, (beats - 1).bit_length())


def described(sites: Sites) -> str:
    """Say how many sites there are of each kind."""
    shifts, nothing = sites.count(Kind.SHIFTS), sites.count(Kind.NOTHING)
    text = f"{sites.count(Kind.MULTIPLIER)} multipliers"
    if shifts:
        text += f", {shifts} choices of shifts"
    return f"{text} ({nothing} more would only see zeros)" if nothing else text


def signed_item(array: str, index: str, width: int) -> str:
    """Return one signed element of an array, extended or truncated to `width` bits."""
    return f"{width}'($signed({array}[{index}]))"


def sum_of(array: str, base: str, indices: Sequence[int], width: int) -> str:
    """Return the sum of some terms of one lane, every one at `width` bits."""
    return " + ".join(signed_item(array, f"{base}+{k}" if k else base, width) for k in indices)


def sum_stage(module: ModuleText, source: str, target: str, lanes: int, terms: int, radix: int, width: int) -> int:
    """Register sums of up to `radix` neighbouring terms in every lane, `width` bits each. Returns the terms left."""
    left, full = -(-terms // radix), terms // radix
    module.array(target, width, lanes * left, 'use_dsp = "no"')
    body = [f"for (int l = 0; l < {lanes}; l++) begin"]
    if full:
        body.append(f"  for (int t = 0; t < {full}; t++)")
        body.append(f"    {target}[l*{left}+t] <= {sum_of(source, f'l*{terms}+t*{radix}', range(radix), width)};")
    if full < left:
        value = sum_of(source, f"l*{terms}+{full * radix}", range(terms - full * radix), width)
        body.append(f"  {target}[l*{left}+{full}] <= {value};")
    module.clocked(*body, "end")
    return left


def products(module: ModuleText, name: str, sites: Sites, x: Operand, xs: str, ws: str) -> None:
    """Register `name`: every site's weights times its input; 0 where the weights are 0 in every beat.

    Multipliers in DSP blocks have the register behind the multiplier (`NAME_m`) and the one behind the adder, which
    adds the half that lets sums split (`Packing.half`) to one product of each group.
    """
    (pairs, inputs), pack = sites.shape, sites.pack
    bits, count = pack.product_bits, pairs * inputs
    every = sites.count(Kind.MULTIPLIER) == count
    first, index = f"{name}_m" if pack.in_blocks else name, f"k*{inputs}+i"
    each = (f"for (int k = 0; k < {pairs}; k++)", f"  for (int i = 0; i < {inputs}; i++)")
    module.array(first, bits, count, 'use_dsp = "yes"' if pack.in_blocks and every else "")
    if every:
        module.clocked(*each, f"    {first}[{index}] <= {_product(pack, x, ws, index, xs, 'i')};")
    else:
        module.unused += [xs, ws]
        _each_product(module, name, first, sites, x, xs, ws)
    if not pack.in_blocks:
        return
    module.array(name, bits, count)
    if pack.half and every:
        half = f"((i % {pack.group} == 0) ? {bits}'sd{pack.half} : {bits}'sd0)"
        module.clocked(*each, f"    {name}[{index}] <= {bits}'($signed({first}[{index}]) + {half});")
    else:
        copied = f"for (int k = 0; k < {count}; k++) {name}[k] <= {first}[k];"
        module.clocked(copied, *(_halves(name, first, sites) if pack.half else ()))


def _halves(name: str, source: str, sites: Sites) -> list[str]:
    """Add the half to one product of each group: a multiplier's where there is one, else what costs least."""
    (pairs, inputs), pack = sites.shape, sites.pack
    bits, statements = pack.product_bits, []
    for pair in range(pairs):
        for start in range(0, inputs, pack.group):
            kinds = sites.kinds[pair, start : start + pack.group]
            multiplied = (kinds == int(Kind.MULTIPLIER)).any()
            at = pair * inputs + start + int(kinds.argmax() if multiplied else kinds.argmin())
            statements.append(f"{name}[{at}] <= {bits}'($signed({source}[{at}]) + {bits}'sd{pack.half});")
    return statements


def _each_product(module: ModuleText, name: str, target: str, sites: Sites, x: Operand, xs: str, ws: str) -> None:
    """Register what each site is made of."""
    (pairs, inputs), pack = sites.shape, sites.pack
    statements = [f"for (int k = 0; k < {pairs * inputs}; k++) {target}[k] <= {pack.product_bits}'d0;"]
    for pair in range(pairs):
        for place in range(inputs):
            at = pair * inputs + place
            match Kind(int(sites.kinds[pair, place])):
                case Kind.NOTHING:
                    continue
                case Kind.SHIFTS:
                    value = _shifted(
                        module, sites, (pair, place), f"{name}_{pair}_{place}", x.multiplicand(xs, str(place)), ws
                    )
                case Kind.MULTIPLIER:
                    value = _product(pack, x, ws, str(at), xs, str(place))
            statements.append(f"{target}[{at}] <= {value};")
    module.clocked(*statements)


def _product(pack: Packing, x: Operand, ws: str, index: str, xs: str, place: str) -> str:
    bits = pack.product_bits
    return f"{bits}'({bits}'($signed({part(ws, index, pack.weight_bits)})) * {bits}'({x.multiplicand(xs, place)}))"


def _shifted(module: ModuleText, sites: Sites, site: tuple[int, int], name: str, x: str, ws: str) -> str:
    """Declare what each lane of a site chooses among the input's shifts; return their packed sum."""
    pack = sites.pack
    bits, low = pack.product_bits, (site[0] * sites.shape[1] + site[1]) * pack.weight_bits
    terms = []
    for way, lane in enumerate(sites.lanes(*site)):
        if lane.shifts:
            net = f"{name}_{way}"
            choice = f"{ws}[{low} +: {lane.bits}]"
            arms = [f"({bits}'({x}) <<< {s})" if s else f"{bits}'({x})" for s in lane.shifts]
            value = arms[-1]
            for place in range(len(arms) - 2, -1, -1):
                value = f"({choice} == {lane.bits}'d{place + lane.zero}) ? {arms[place]} : {value}"
            if lane.zero:
                value = f"({choice} == {lane.bits}'d0) ? {bits}'sd0 : {value}"
            module.add(f"wire signed [{bits - 1}:0] {net} = {value};")
            term = net
            if lane.all_negative:
                term = f"-{net}"
            elif lane.some_negative:
                term = f"({ws}[{low + lane.bits}] ? -{net} : {net})"
            terms.append(f"({term} <<< {pack.shift})" if way else term)
        low += lane.code_bits
    return " + ".join(terms)


def split_terms(module: ModuleText, source: str, prefix: str, pairs: int, terms: int, pack: Packing, bits: int) -> int:
    """Declare wires `<prefix>_term` [lane][term]. Returns the width of a term.

    The sums of packed products have a half in them (`Packing.half`): their low `shift` bits with the highest inverted
    are the lower sum, the bits above the upper one.
    """
    count, target = pairs * terms, f"{prefix}_term"
    if pack.ways == 1:
        module.array(target, bits, count)
        module.add("always_comb", f"  for (int k = 0; k < {count}; k++) {target}[k] = {source}[k];", "")
        return bits
    width = max(pack.shift, bits - pack.shift)
    packed = f"{source}[k*{terms}+t]"
    lower = f"~{packed}[{pack.shift - 1}]"
    if pack.shift > 1:
        lower = f"{{{lower}, {packed}[{pack.shift - 2}:0]}}"
    module.array(target, width, 2 * count)
    module.add(
        "always_comb",
        f"  for (int k = 0; k < {pairs}; k++)",
        f"    for (int t = 0; t < {terms}; t++) begin",
        f"      {target}[2*k*{terms}+t] = {width}'($signed({lower}));",
        f"      {target}[(2*k+1)*{terms}+t] = {width}'($signed({packed}[{bits - 1}:{pack.shift}]));",
        "    end",
        "",
    )
    return width


def join_slots(wires: WireFormat, sources: Sequence[str]) -> list[str]:
    """Return the lines of `assign y_o = {...}` from one expression of exactly the slot's width per slot."""
    reversed_sources = list(reversed(sources))
    assert len(sources) == len(wires.slots)
    return ["assign y_o = {", *(f"  {s}," for s in reversed_sources[:-1]), f"  {reversed_sources[-1]}", "};", ""]
