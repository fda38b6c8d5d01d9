"""Every step of evidence, in the order in which they run: cheap ones first, hours last."""

from __future__ import annotations

import rungs
from evidence import firmware, numbers, speed
from evidence.steps import LONG_S, Part, Step, command, many, one
from exactness import NETWORKS as QUANTIZED
from ptq_files import FILES
from ptq_networks import GENERATED

README, EXAMPLES, BENCHMARKS, QUANTIZED_PAGE = (
    "README.md",
    "examples/README.md",
    "benchmarks/README.md",
    "docs/quantized.md",
)
PAGES = (README, EXAMPLES, BENCHMARKS, QUANTIZED_PAGE)

BEFORE = {
    **dict.fromkeys(("help", "boards", "missing file", "image", "dense 1024"), "85dd499"),
    **dict.fromkeys(("no board", "no II"), "2ad7af6"),
}
"""Cases of waiting.py and the revision that each is compared with."""
RESOURCE_KINDS = (
    *("matvec_adders", "matvec_fold_outputs", "matvec_fold_inputs", "elementwise", "table", "reduce", "delay"),
    *("reorder", "link_tx", "link_rx"),
)
ECP5_KINDS = (
    *RESOURCE_KINDS[:6],
    *("reduce_serial", "delay", "window_buffer", "delay_stream", "reorder_stream"),
)
PEERED = ("KERAS_3layer", "mlp", "units_1e-15", "concat_1_1000", "raw_classes", "regression_125")
SEARCHES = {"own_omtf_mlp, II 9": "9", "own_omtf_mlp, II 1": "1"}
ZOO = (
    *("dijet", "sparticle_xsec", "dqm_autoencoder", "bjet_tagger", "jet_images", "jet_images_four"),
    *("calorimeter_energy", "strain_conv1d", "digits_cnn", "digits_resnet", "digits_inception"),
)
NETWORK_S = 5 * rungs.LIMIT_S + 600
"""A compilation and four rungs, each within its limit, and what stands around them."""


def waiting() -> Step:
    """Return the step of waiting.py, each case beside an older revision."""
    parts = tuple(
        Part(
            name=case,
            commands=(("python", "benchmarks/waiting.py", "--only", case, "--before", "{before}", "--json"),),
            before=revision,
        )
        for case, revision in BEFORE.items()
    )
    shown = "python benchmarks/waiting.py --only CASE --before CHECKOUT --json"
    return Step(name="waiting", page=BENCHMARKS, parts=parts, table=speed.waiting, shown=shown, minutes=6)


def emulators_demo() -> Step:
    """Return the step of emulator.py on the muon network."""
    part = Part(
        name="omtf",
        commands=(
            ("python", "-m", "metronn", "quantize", "examples/omtf", "-o", "{work}/graph.txt"),
            command("python benchmarks/emulator.py --model {work}/graph.txt --strategy Resource --json"),
        ),
    )
    shown = "python benchmarks/emulator.py --model graph.txt --strategy Resource"
    return Step(name="emulators-omtf", page=BENCHMARKS, parts=(part,), table=speed.emulators, shown=shown, minutes=2)


def demo() -> Step:
    """Return the step of the muon network on two boards, as `make demo` compiles it."""
    part = Part(
        name="omtf",
        commands=(
            command("python examples/omtf/generate.py --events 10000 --seed 1 --output {work}/muons.npz"),
            command("python -m metronn compile examples/omtf -o {work}/build --verify-data {work}/muons.npz"),
        ),
        limit_s=LONG_S,
    )
    return Step(name="demo", page=README, parts=(part,), table=firmware.demo, shown="make demo", minutes=6)


def searches() -> Step:
    """Return the step of compression_search.py."""
    program = ("python", "benchmarks/compression_search.py")
    parts = [
        Part(name=name, commands=((*program, "--network", "own_omtf_mlp", "--ii", ii, "--json"),))
        for name, ii in SEARCHES.items()
    ]
    random = (*program, "--network", "KERAS_3layer", "--json")
    parts.append(Part(name="KERAS_3layer", commands=(random,), limit_s=LONG_S))
    return Step(
        name="searches",
        page=BENCHMARKS,
        parts=tuple(parts),
        table=speed.search,
        shown="python benchmarks/compression_search.py",
        minutes=12,
    )


COMPRESSION = (
    "python benchmarks/compression.py --events 60000 --test-events 6000 --prune-epochs 2 --epochs 10 --sparsity 0.4 "
    "--json"
)
JETS = (
    "python benchmarks/emulator.py --network jets --strategy Resource --events 8192 --numpy-events 400 "
    "--hls4ml-events 20 --repeats 3 --json"
)
STEPS: tuple[Step, ...] = (
    one("streams", BENCHMARKS, "python benchmarks/streams.py --json", firmware.streams, 0.2),
    one("operands", QUANTIZED_PAGE, "python benchmarks/operands.py --json", firmware.operands, 0.3),
    one("latency", BENCHMARKS, "python benchmarks/latency.py --json", firmware.latency, 0.7),
    emulators_demo(),
    one("emulators-jets", BENCHMARKS, JETS, speed.emulators, 2),
    one("compilation", BENCHMARKS, "python benchmarks/compile.py --repeats 3 --json", speed.compilation, 3),
    one("alkaid", BENCHMARKS, "python benchmarks/alkaid_rtl.py --json", firmware.alkaid, 3),
    one("simulators", BENCHMARKS, "python benchmarks/rtl.py --json", speed.simulators, 5),
    waiting(),
    demo(),
    many(
        "layers",
        BENCHMARKS,
        "python benchmarks/scaling.py --kinds NAME --layers 8 16 32 64 128 --json",
        ("dense", "image"),
        speed.layers,
        8,
    ),
    many(
        "emulators-quantized",
        BENCHMARKS,
        "python benchmarks/emulator_quantized.py --network NAME --hls4ml-events 2000 --json",
        ("hgq2_jsc_openml_7229", "hgq2_jsc_bnd_7686", "qkeras_3layer", "qkeras_jettagging_qonnx"),
        speed.emulators_quantized,
        10,
    ),
    searches(),
    one("compression", BENCHMARKS, COMPRESSION, numbers.compression, 20, limit_s=LONG_S),
    many(
        "resources",
        BENCHMARKS,
        "python benchmarks/resources.py --kind NAME --json",
        RESOURCE_KINDS,
        firmware.resources,
        20,
    ),
    many(
        "resources-ecp5",
        BENCHMARKS,
        "python benchmarks/resources.py --device ecp5-85f --clock 80 --kind NAME --json",
        ECP5_KINDS,
        firmware.resources,
        15,
    ),
    many(
        "after-training-peers",
        BENCHMARKS,
        "python benchmarks/ptq.py --widths auto --networks NAME --json",
        PEERED,
        numbers.peers,
        8,
    ),
    many(
        "zoo",
        EXAMPLES,
        "python examples/zoo.py NAME --limit 3600 --json",
        ZOO,
        firmware.zoo,
        75,
        limit_s=7 * 3600.0,
    ),
    one("million", BENCHMARKS, "python benchmarks/scaling.py --large --json", speed.million, 4),
    many(
        "after-training",
        BENCHMARKS,
        "python benchmarks/ptq.py --no-peers --networks NAME --json",
        tuple(entry.name for entry in (*FILES, *GENERATED)),
        numbers.after_training,
        90,
    ),
    many(
        "networks",
        BENCHMARKS,
        "python benchmarks/rungs.py NAME --json",
        tuple(rungs.FILES),
        firmware.networks,
        120,
        limit_s=NETWORK_S,
    ),
    many(
        "exactness",
        BENCHMARKS,
        "python benchmarks/exactness.py --network NAME --json",
        tuple(QUANTIZED),
        numbers.exactness,
        120,
    ),
)  # fmt: skip
"""`minutes` are guesses from single runs on two cores. `million` stands behind `zoo`, which trains its network."""
