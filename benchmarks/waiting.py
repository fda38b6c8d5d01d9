"""Processor seconds of what users wait for: help, boards, an error, and plans of large networks with an empty cache.

    python benchmarks/waiting.py [--only NAME ...] [--before PATH] [--json]

`--before` is a checkout of another revision (`git worktree add PATH REVISION`), measured beside this one. The networks
have random weights of 8 bits:

    image       26 convolutions (depthwise 3 x 3, then 1 x 1, to 224 channels) on 32 x 32, II 1024, one-large-virtual
    no board    the same on one-pynq-z2, where it fits at no II: what binds
    no II       the same at II 256 on one-vcu118, where it does not fit: the II that does
    dense 1024  a dense layer 1024 x 1024 and one of 8 outputs, II 1600, one-vcu118
    dense 4096  the same with 4096 x 4096, II 1600, chain-16-serenity

A refusal shows its second line. A run is ended after ten minutes of wall time. Exit status 1 when this checkout misses
a limit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS_S = {
    "help": 0.4,
    "boards": 0.4,
    "missing file": 1.0,
    "image": 60.0,
    "no board": 30.0,
    "no II": 30.0,
    "dense 1024": 15.0,
    "dense 4096": 120.0,
}
SYSTEMS = {
    "image": ("one-large-virtual", 1024),
    "no board": ("one-pynq-z2", 1024),
    "no II": ("one-vcu118", 256),
    "dense 1024": ("one-vcu118", 1600),
    "dense 4096": ("chain-16-serenity", 1600),
}
"""System and II of each network."""
COMMANDS = {
    "help": ["--help"],
    "boards": ["boards"],
    "missing file": ["plan", "missing.txt", "--system", "one-vcu118"],
}
BLOCKS = (
    (24, 1),
    (32, 2),
    (32, 1),
    (64, 2),
    (64, 1),
    (96, 1),
    (96, 1),
    (128, 2),
    (128, 1),
    (176, 1),
    (224, 1),
    (224, 1),
)
"""Channels and stride of each pair of convolutions of the image network."""
LONGEST_S = 600


def plan_network(name: str) -> None:
    """Build a network and plan it; runs in a process of its own."""
    import numpy as np

    from metronn.errors import InfeasibleError
    from metronn.ir.arrays import IntArray
    from metronn.ir.graph import GraphBuilder
    from metronn.ir.ops import (
        Constant,
        Extremum,
        Input,
        Linear,
        Overflow,
        Padding,
        Reduce,
        Requantize,
        Rounding,
        Window,
    )
    from metronn.ir.types import Range
    from metronn.plan.options import PlanOptions
    from metronn.plan.planner import plan

    try:
        from metronn.plan.hardware.system import load_system
    except ModuleNotFoundError:  # a checkout from before the folders of plan/
        from metronn.plan.system import load_system

    builder, random = GraphBuilder(), np.random.Generator(np.random.PCG64(1))

    def linear(x: str, outputs: int, name: str, mask: object = 1) -> str:
        weight = random.integers(-127, 128, (builder.types[x].shape[-1], outputs)) * mask
        bias = IntArray.of(random.integers(-400, 400, outputs))
        return builder.add(Linear(x=x, weight=IntArray.of(weight), bias=bias, weight_frac=7), name, name)

    def relu(x: str, name: str) -> str:
        zero = builder.add(Constant(values=IntArray.of(0)), f"{name}.zero", name)
        kept = builder.add(Extremum(x=x, y=zero), f"{name}.relu", name)
        reach = builder.types[kept].range
        out = Range.fixed(8, reach.max_frac - max(0, reach.width_bits - 10), signed=False)
        op = Requantize(x=kept, out=out, rounding=Rounding.RND, overflow=Overflow.SAT)
        return builder.add(op, f"{name}.out", name)

    def windows(x: str, name: str, stride: int) -> str:
        ones = (1, 1)
        op = Window(
            x=x, kernel=(3, 3), strides=(stride,) * 2, dilations=ones, before=ones, after=ones, padding=Padding.ZERO
        )
        return builder.add(op, f"{name}.window", name)

    def image() -> str:
        x = builder.add(Input(shape=(32, 32, 3), range=Range.fixed(8, 8, signed=False)), "x")
        x = relu(linear(windows(x, "stem", 1), 16, "stem"), "stem")
        channels = 16
        for k, (filters, stride) in enumerate(BLOCKS):
            apart = np.tile(np.eye(channels, dtype=np.int64), (9, 1))
            x = relu(linear(windows(x, f"depth{k}", stride), channels, f"depth{k}", apart), f"depth{k}")
            x, channels = relu(linear(x, filters, f"point{k}"), f"point{k}"), filters
        x = relu(linear(x, 32, "last"), "last")
        return linear(builder.add(Reduce(x=x, axes=(0, 1)), "pool", "pool"), 10, "logits")

    def dense(size: int) -> str:
        x = builder.add(Input(shape=(size,), range=Range.fixed(8, 8, signed=False)), "x")
        return linear(relu(linear(x, size, "dense"), "dense"), 8, "logits")

    builder.output("y", dense(int(name.split()[1])) if name.startswith("dense") else image())
    system, ii = SYSTEMS[name]
    try:
        design = plan(builder.build(), load_system(system).with_overrides(ii=ii), PlanOptions())
    except InfeasibleError as error:
        print(error.message.splitlines()[1].strip())
        return
    print(f"{design.latency_cycles} cycles, {sum(fpga.resources.lut for fpga in design.fpgas):,} LUT")


def measured(name: str, checkout: Path) -> tuple[float | None, str]:
    """Return processor seconds (None: not ended in time) of one case with a checkout, and what it said last."""
    inner = [sys.executable, "-m", "metronn", *COMMANDS[name]] if name in COMMANDS else None
    command = inner or [sys.executable, str(Path(__file__).resolve()), "--plan", name]
    probe = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
        "use = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "said = ((done.stdout if not done.returncode else done.stderr).strip().splitlines() or [''])[-1]\n"
        "print(use.ru_utime + use.ru_stime)\nprint(said)\n"
    )
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "XDG_CACHE_HOME": empty}
        try:
            done = subprocess.run(
                [sys.executable, "-c", probe, *command],
                cwd=empty,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
                timeout=LONGEST_S,
            )
        except subprocess.TimeoutExpired:
            return None, f"not ended after {LONGEST_S} s"
    seconds, said = (done.stdout.split("\n", 1) + [""])[:2]
    return float(seconds), said.strip()[:60]


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=LIMITS_S, default=list(LIMITS_S))
    parser.add_argument("--before", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plan", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plan:
        plan_network(arguments.plan)
        return 0
    rows = []
    for name in arguments.only:
        now, said = measured(name, ROOT)
        before = measured(name, arguments.before.resolve())[0] if arguments.before else None
        rows.append({"case": name, "before_s": before, "now_s": now, "limit_s": LIMITS_S[name], "said": said})
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        print(f"{'CPU s':14}{'before':>9}{'now':>9}{'limit':>9}")
        for row in rows:
            cells = ("-" if row[key] is None else f"{row[key]:.2f}" for key in ("before_s", "now_s", "limit_s"))
            print(f"{row['case']:14}" + "".join(f"{cell:>9}" for cell in cells) + f"  {row['said']}")
    return int(any(row["now_s"] is None or row["now_s"] > row["limit_s"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
