"""Devices, boards and systems: every shipped file, the numbers derived from them, and every message."""

import itertools
from pathlib import Path

import pytest

from metronn.errors import ModelError
from metronn.plan.hardware.boards import list_devices, load_board, load_device
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.system import (
    Encoding,
    System,
    board_table,
    boards_directory,
    list_boards,
    list_systems,
    load_system,
)
from metronn.toml_tables import read_toml

BOARD = """\
name = "bench"
title = "Bench board"
device = "vu13p"
reference_clocks_mhz = [156.25]
source = "test"

[usable_fraction]
lut = 0.5
ff = 0.5
dsp = 0.5
bram = 0.5
uram = 0.5
reason = "test"

[[transceivers]]
kind = "GTY"
lanes = 8
line_rate_gbps = 25.78125
connector = "QSFP28"
"""
HEAD = 'name = "mine"\ntitle = "Mine"\nclock_mhz = 360.0\nsource = "test"\n'
LINK = "lanes = 4\nline_rate_gbps = 25.78125\nlatency_min_ns = 60\nlatency_max_ns = 100\n"


def boards_of(*names: str, board: str = "serenity") -> str:
    """TOML of FPGAs that all have one board."""
    return "".join(f'[[boards]]\nname = "{name}"\nboard = "{board}"\n' for name in names)


def link_of(first: str, second: str, settings: str = LINK) -> str:
    """TOML of one link."""
    return f'[[links]]\nfrom = "{first}"\nto = "{second}"\n{settings}'


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    """Write a TOML file and return its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def message_of(path: Path) -> str:
    """The message with which a system file is refused."""
    with pytest.raises(ModelError) as caught:
        load_system(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


# Shipped files


@pytest.mark.parametrize("name", list_systems())
def test_every_system_loads(name: str) -> None:
    system = load_system(name)
    assert system.name == name
    assert system.source.strip()
    assert len(system.links) == len(system.fpgas) - 1


@pytest.mark.parametrize("name", list_devices())
def test_every_device_is_plausible(name: str) -> None:
    device = load_device(name)
    assert device.ff >= device.lut
    assert device.bram_kbit == device.bram.count * device.bram.kbit_per_block
    assert device.dsp.multiplier_widths[0] >= device.dsp.multiplier_widths[1]
    assert device.lut_inputs == (4 if device.family == "ECP5" else 6)


@pytest.mark.parametrize("name", list_boards())
def test_every_board_has_a_device_and_a_budget_within_it(name: str) -> None:
    board = load_board(name)
    device = load_device(board.device)
    assert board.budget(device).fits(device.resources)


def test_the_names_that_are_promised_exist() -> None:
    assert {
        "vu13p", "vu9p", "ku115", "ku15p", "vu35p", "vu47p", "zu9eg", "xc7z020", "arria10-gx1150", "ecp5-85f",
    } <= set(list_devices())  # fmt: skip
    assert {
        "serenity", "serenity-ku15p", "serenity-ku115", "apx", "vcu118", "alveo-u50", "alveo-u55c", "alveo-u250",
        "zcu102", "pynq-z2", "pcie40", "ulx3s",
    } <= set(list_boards())  # fmt: skip
    assert {
        "one-serenity", "two-serenity", "four-serenity", "chain-16-serenity", "two-apx", "one-alveo-u250",
        "one-vcu118", "one-pynq-z2", "one-ulx3s", "one-large-virtual",
    } <= set(list_systems())  # fmt: skip


@pytest.mark.parametrize(
    ("name", "resources", "dsp_kind", "widths"),
    [
        ("vu13p", Resources(lut=1_728_000, ff=3_456_000, dsp=12_288, bram36=2688, uram=1280), "DSP48E2", (27, 18)),
        ("xc7z020", Resources(lut=53_200, ff=106_400, dsp=220, bram36=140), "DSP48E1", (25, 18)),
        # A unit is two blocks that are used by themselves: of 2,713 and of 208.
        (
            "arria10-gx1150",
            Resources(lut=427_200, ff=1_708_800, dsp=1518, bram36=1356.5),
            "Variable-precision DSP block",
            (19, 18),
        ),
        ("ecp5-85f", Resources(lut=83_640, ff=83_640, dsp=156, bram36=104), "MULT18X18D", (18, 18)),
    ],
)
def test_device_numbers(name: str, resources: Resources, dsp_kind: str, widths: tuple[int, int]) -> None:
    device = load_device(name)
    assert device.resources == resources
    assert (device.dsp.kind, device.dsp.multiplier_widths) == (dsp_kind, widths)


def test_two_serenity() -> None:
    system = load_system("two-serenity")
    assert [fpga.name for fpga in system.fpgas] == ["fpga0", "fpga1"]
    assert (system.clock_mhz, system.ii) == (360.0, 9)
    assert system.nanoseconds(9) == 25.0
    assert system.period_ps == pytest.approx(2777.778, abs=1e-3)
    assert system.period_ns == pytest.approx(2.777778, abs=1e-6)
    assert system.fpgas[0].part == "xcvu13p-fsga2577-1-e"
    assert system.fpgas[0].budget == Resources(lut=864_000, ff=1_728_000, dsp=9_828, bram36=1880.0, uram=1024)
    (link,) = system.links
    assert (link.from_fpga, link.to_fpga, link.lanes, link.encoding) == ("fpga0", "fpga1", 16, Encoding.B64B66)
    assert link.payload_gbps == 25.0
    assert link.payload_bits_per_cycle == 1024
    # 60 ns are 21.6 cycles, 100 ns exactly 36.
    assert (link.latency_min_cycles, link.latency_max_cycles) == (21, 36)


def test_a_board_may_carry_a_variant_of_the_device() -> None:
    assert load_system("one-alveo-u250").fpgas[0].part == "xcu250-figd2104-2L-e"


def test_a_chain_is_written_out() -> None:
    system = load_system("chain-16-serenity")
    assert [(link.from_fpga, link.to_fpga) for link in system.links] == [
        (first.name, second.name) for first, second in itertools.pairwise(system.fpgas)
    ]
    assert len(system.fpgas) == 16


def test_a_system_is_a_value_and_reads_the_same_twice() -> None:
    first, second = load_system("four-serenity"), load_system("four-serenity")
    assert first == second
    assert hash(first) == hash(second)
    assert first.model_dump_json() == second.model_dump_json()
    assert System.model_validate_json(first.model_dump_json()) == first


def test_board_table_has_a_row_per_board() -> None:
    rows = {str(row["board"]): row for row in board_table()}
    assert tuple(rows) == list_boards()
    assert rows["serenity"]["lut"] == 1_728_000
    assert rows["serenity"]["usable_lut"] == 864_000
    assert rows["serenity"]["lanes"] == 124
    assert rows["ulx3s"]["line_rate_gbps"] == 0.0
    assert len({tuple(row) for row in rows.values()}) == 1


# Overrides


def test_a_new_clock_keeps_the_event_rate() -> None:
    system = load_system("two-serenity").with_overrides(clock_mhz=320)
    assert (system.clock_mhz, system.ii, system.event_rate_mhz) == (320.0, 8, 40.0)
    assert (system.links[0].latency_min_cycles, system.links[0].latency_max_cycles) == (19, 32)


def test_an_ii_given_outright_stays() -> None:
    system = load_system("two-serenity").with_overrides(ii=18)
    assert (system.ii, system.event_rate_mhz) == (18, None)
    assert system.with_overrides(clock_mhz=240.0).ii == 18


def test_no_override_changes_nothing() -> None:
    system = load_system("two-serenity")
    assert system.with_overrides() == system


@pytest.mark.parametrize("ii", [0, -3, 65_537])
def test_an_impossible_ii_is_refused(ii: int) -> None:
    with pytest.raises(
        ModelError, match=f"^system two-serenity: key 'ii' must be a whole number from 1 to 65536, found {ii}$"
    ):
        load_system("two-serenity").with_overrides(ii=ii)


def test_both_overrides_are_judged() -> None:
    with pytest.raises(ModelError) as caught:
        load_system("two-serenity").with_overrides(ii=0, clock_mhz=float("nan"))
    assert str(caught.value).splitlines() == [
        "system two-serenity: key 'clock_mhz' must be a number from 0.001 to 100000, found nan",
        "system two-serenity: key 'ii' must be a whole number from 1 to 65536, found 0",
    ]


def test_a_clock_that_the_links_and_the_device_cannot_follow() -> None:
    with pytest.raises(ModelError) as caught:
        load_system("two-serenity").with_overrides(clock_mhz=700.0)
    assert str(caught.value).splitlines() == [
        "system two-serenity: clock_mhz 700 is above the 667 MHz that the clock network of vu13p, speed grade -1, "
        "allows (fpga0, fpga1)",
        "system two-serenity: link fpga0 -> fpga1: 64 bits a cycle (64 word + 0 sideband) at 700 MHz and a marker "
        "an orbit need 44.8007 Gb/s a lane; 25.78125 Gb/s with 64b66b carry 25 Gb/s. Lower the clock to 390.61 MHz, "
        "narrow the word, or raise the line rate.",
    ]


def test_a_lane_has_room_for_the_start_of_every_orbit(tmp_path: Path) -> None:
    """At 390.625 MHz every block of 25.78125 Gb/s would be a word of data, none could say where the orbit begins."""
    path = write(tmp_path, HEAD + boards_of("a", "b") + link_of("a", "b"))
    assert load_system(path).with_overrides(ii=9, clock_mhz=390.61).clock_mhz == 390.61
    with pytest.raises(ModelError, match=r"need 25\.0007 Gb/s a lane; 25\.78125 Gb/s with 64b66b carry 25 Gb/s"):
        load_system(path).with_overrides(ii=9, clock_mhz=390.625)


def test_a_clock_below_the_event_rate() -> None:
    with pytest.raises(ModelError) as caught:
        load_system("one-serenity").with_overrides(clock_mhz=20.0)
    assert str(caught.value) == (
        "system one-serenity: event_rate_mhz 40 at 20 MHz is an event every 0.5 cycles; allowed are 1 to 65536. "
        "Change the clock or the event rate."
    )


# Files of the user


def test_a_system_of_the_user_finds_boards_beside_it(tmp_path: Path) -> None:
    write(tmp_path, BOARD, "boards/bench.toml")
    path = write(tmp_path, HEAD + boards_of("a", "b", board="bench") + link_of("a", "b"))
    system = load_system(str(path))
    assert [fpga.board.title for fpga in system.fpgas] == ["Bench board", "Bench board"]
    assert system.fpgas[0].budget.lut == 864_000
    assert (system.ii, system.event_rate_mhz) == (9, 40.0)


def test_files_beside_the_system_win_over_the_shipped_ones(tmp_path: Path) -> None:
    write(tmp_path, BOARD.replace('"bench"', '"serenity"'), "boards/serenity.toml")
    assert load_system(write(tmp_path, HEAD + boards_of("a"))).fpgas[0].board.title == "Bench board"
    assert load_system("one-serenity").fpgas[0].board.title != "Bench board"


def test_a_search_folder_gives_systems_by_name(tmp_path: Path) -> None:
    write(tmp_path, HEAD + "ii = 3\n" + boards_of("a"), "systems/mine.toml")
    assert load_system("mine", search=tmp_path).ii == 3
    assert load_system("two-serenity", search=tmp_path).ii == 9


def test_8b10b_is_known(tmp_path: Path) -> None:
    settings = 'encoding = "8b10b"\nword_width_bits = 32\nsideband_bits = 0\n' + LINK.replace("25.78125", "16.0")
    path = write(tmp_path, HEAD + boards_of("a", "b") + link_of("a", "b", settings))
    assert load_system(path).links[0].payload_gbps == 12.8


def test_a_latency_below_a_cycle_counts_as_one(tmp_path: Path) -> None:
    settings = LINK.replace("60", "0").replace("100", "0")
    (link,) = load_system(write(tmp_path, HEAD + boards_of("a", "b") + link_of("a", "b", settings))).links
    assert (link.latency_min_cycles, link.latency_max_cycles) == (1, 1)


# Refusals


def test_unknown_system() -> None:
    with pytest.raises(ModelError) as caught:
        load_system("two-serenty")
    assert str(caught.value) == (
        "unknown system 'two-serenty'; did you mean 'two-serenity'? known systems: " + ", ".join(list_systems())
    )


def test_unknown_system_far_from_any_name() -> None:
    with pytest.raises(ModelError, match="^unknown system 'zzz'; known systems: chain-16-serenity, "):
        load_system("zzz")


def test_a_name_never_leaves_the_folder() -> None:
    with pytest.raises(ModelError, match="^unknown board '../systems/two-serenity'; "):
        load_board("../systems/two-serenity")


def test_missing_system_file(tmp_path: Path) -> None:
    path = tmp_path / "absent.toml"
    assert message_of(path) == f"{path}: no such system file; known systems: {', '.join(list_systems())}"


def test_unknown_boards_are_all_listed(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + boards_of("a", board="serenty") + boards_of("b", "c", board="apex"))
    known = f"known boards: {', '.join(list_boards())}"
    assert message_of(path).splitlines() == [
        f"{path}: a: unknown board 'serenty'; did you mean 'serenity'? {known}",
        f"{path}: b, c: unknown board 'apex'; did you mean 'apx'? {known}",
    ]


def test_unknown_device(tmp_path: Path) -> None:
    write(tmp_path, BOARD.replace('"vu13p"', '"vu13"'), "boards/bench.toml")
    path = write(tmp_path, HEAD + boards_of("a", board="bench"))
    assert message_of(path).startswith(
        f"{path}: a: board 'bench': unknown device 'vu13'; did you mean 'vu13p'? known devices: arria10-gx1150, "
    )


def test_malformed_toml_names_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "mine"\nclock_mhz = \n')
    message = message_of(path)
    assert message.startswith(f"{path}: not valid TOML: ")
    assert "line 2" in message


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b'name = "\xff"')
    assert message_of(path) == f"{path}: not valid TOML: not UTF-8 text (byte 8)"


def test_wrong_missing_and_unknown_keys_are_all_listed(tmp_path: Path) -> None:
    text = (
        'name = ""\ntitle = 3\nclok_mhz = 360\nii = 0\n'
        '[[boards]]\nname = "FPGA 0"\nboard = "serenty"\n'
        '[[links]]\nfrom = "a"\nlanes = 0\nline_rate_gbps = "fast"\nencoding = "128b130b"\nlanees = 3\n'
        "latency_min_ns = -1\nlatency_max_ns = nan\n"
    )
    path = write(tmp_path, text)
    name = "must be a name of 1 to 31 lower-case letters, digits and single _ between them, a letter first"
    expected = [
        "missing key 'clock_mhz'",
        "missing key 'source'",
        "missing key 'links.0.to'",
        "key 'name' must be a text that is not empty, found ''",
        "key 'title' must be a text that is not empty, found 3",
        "key 'ii' must be a whole number from 1 to 65536, found 0",
        f"key 'boards.0.name' {name}, found 'FPGA 0'",
        "key 'links.0.lanes' must be a whole number from 1 to 4096, found 0",
        "key 'links.0.line_rate_gbps' must be a number from 0.1 to 1000, found 'fast'",
        "key 'links.0.encoding' must be one of 64b66b, 8b10b, found '128b130b'",
        "key 'links.0.latency_min_ns' must be a number from 0 to 1000000, found -1",
        "key 'links.0.latency_max_ns' must be a number from 0 to 1000000, found nan",
        "unknown key 'clok_mhz'; did you mean 'clock_mhz'? allowed here: clock_mhz, ii, event_rate_mhz, name, title, "
        "source, boards, links, chain",
        "unknown key 'links.0.lanees'; did you mean 'lanes'? allowed here: lanes, line_rate_gbps, encoding, "
        "word_width_bits, sideband_bits, latency_min_ns, latency_max_ns, from, to",
        f"FPGA 0: unknown board 'serenty'; did you mean 'serenity'? known boards: {', '.join(list_boards())}",
    ]
    assert sorted(message_of(path).splitlines()) == sorted(f"{path}: {line}" for line in expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("boards = 3\n", "key 'boards' must be a list, found 3"),
        ("boards = [3]\n", "key 'boards.0' must be a table, found 3"),
        ("ii = 1.5\n", "key 'ii' must be a whole number from 1 to 65536, found 1.5"),
        ("ii = true\n", "key 'ii' must be a whole number from 1 to 65536, found True"),
        ("ii = 9\nevent_rate_mhz = 40\n", "give either 'ii' or 'event_rate_mhz', not both"),
        (
            boards_of("a") + '[chain]\nboard = "apx"\ncount = 1\n[chain.link]\n' + LINK,
            "give either 'chain' or 'boards' and 'links', not both",
        ),
        (
            '[chain]\nboard = "apx"\ncount = 17\n[chain.link]\n' + LINK,
            "key 'chain.count' must be a whole number from 1 to 16, found 17",
        ),
        (
            boards_of("a", "b") + link_of("a", "b", LINK.replace("60", "120")),
            "key 'links.0' latency_min_ns must not be above latency_max_ns, found 120 and 100",
        ),
        (boards_of("a", "a"), "two boards are named 'a'; names must differ"),
        (
            boards_of("first", "last") + link_of("first", "lost"),
            "link first -> lost: unknown FPGA 'lost'; did you mean 'last'? known FPGAs: first, last",
        ),
    ],
)
def test_a_wrong_system_file(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, HEAD + text)
    assert message_of(path) == f"{path}: {expected}"


def test_wrong_board_and_device_files_are_both_named(tmp_path: Path) -> None:
    board = write(tmp_path, BOARD.replace("dsp = 0.5", "dsp = 1.5"), "boards/bench.toml")
    other = write(tmp_path, BOARD.replace('name = "bench"', 'name = "banch"'), "boards/bunch.toml")
    path = write(tmp_path, HEAD + boards_of("a", board="bench") + boards_of("b", board="bunch"))
    assert message_of(path).splitlines() == [
        f"{path}: a: {board}: key 'usable_fraction.dsp' must be a number from 0 to 1, found 1.5",
        f"{path}: b: {other}: key 'name' must be 'bunch' like the file, found 'banch'",
    ]


def test_two_groups_of_transceivers_on_one_connector(tmp_path: Path) -> None:
    group = BOARD[BOARD.index("[[transceivers]]") :]
    board = write(tmp_path, BOARD + group, "boards/bench.toml")
    path = write(tmp_path, HEAD + boards_of("a", board="bench"))
    assert message_of(path) == f"{path}: a: {board}: transceivers: connectors must differ, found QSFP28, QSFP28"


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ([], "none"),
        ([("a", "b")], "a -> b"),
        ([("b", "c"), ("a", "b")], "b -> c, a -> b"),
        ([("a", "b"), ("b", "c"), ("a", "c")], "a -> b, b -> c, a -> c"),
        ([("a", "b"), ("a", "b"), ("b", "c")], "a -> b, a -> b, b -> c"),
    ],
)
def test_a_system_that_is_not_a_chain(tmp_path: Path, links: list[tuple[str, str]], found: str) -> None:
    text = HEAD + boards_of("a", "b", "c") + "".join(link_of(first, second) for first, second in links)
    assert message_of(write(tmp_path, text)) == (
        f"system mine: not a chain: 3 FPGAs need the links a -> b, b -> c, in this order; found {found}"
    )


@pytest.mark.parametrize("count", [0, 17])
def test_too_few_or_too_many_fpgas(tmp_path: Path, count: int) -> None:
    path = write(tmp_path, HEAD + boards_of(*(f"f{index}" for index in range(count))))
    assert message_of(path) == f"system mine: a system has 1 to 16 FPGAs, found {count}"


def test_more_lanes_than_the_board_has(tmp_path: Path) -> None:
    write(tmp_path, BOARD, "boards/bench.toml")
    settings = LINK.replace("lanes = 4", "lanes = 9")
    text = HEAD + boards_of("a") + boards_of("b", board="bench") + link_of("a", "b", settings)
    assert message_of(write(tmp_path, text)) == (
        "system mine: link a -> b: needs 9 lanes of 25.78125 Gb/s, b (bench) has 8"
    )


def test_a_line_rate_above_the_boards(tmp_path: Path) -> None:
    text = HEAD + boards_of("a", "b", board="serenity-ku15p") + link_of("a", "b")
    assert message_of(write(tmp_path, text)).splitlines() == [
        "system mine: link a -> b: needs 4 lanes of 25.78125 Gb/s, a (serenity-ku15p) has 0",
        "system mine: link a -> b: needs 4 lanes of 25.78125 Gb/s, b (serenity-ku15p) has 0",
    ]


def test_the_descriptions_are_where_they_are_said_to_be() -> None:
    assert {"devices", "boards", "systems"} <= {path.name for path in boards_directory().iterdir()}


def test_missing_descriptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metronn.plan.hardware.boards.PACKAGED", tmp_path / "one")
    monkeypatch.setattr("metronn.plan.hardware.boards.CHECKOUT", tmp_path / "two")
    with pytest.raises(
        ModelError, match="^hardware descriptions not found: .*one and .*two do not exist; install metronn again$"
    ):
        boards_directory()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: Is a directory$"):
        read_toml(tmp_path)


def test_the_example_of_the_readme_loads(tmp_path: Path) -> None:
    readme = (boards_directory() / "README.md").read_text(encoding="utf-8")
    example = readme.split("```toml\n")[1].split("```")[0]
    write(tmp_path, BOARD.replace('"bench"', '"mycard"'), "boards/mycard.toml")
    system = load_system(write(tmp_path, example, "mylab.toml"))
    assert (system.ii, [fpga.name for fpga in system.fpgas]) == (6, ["front", "back"])
