"""manifest.json: what a build is, what it promises, and what the verification found. Other tools rely on its keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from metronn import __version__
from metronn.emit.tops import top_name
from metronn.ir.graph import Graph
from metronn.ir.text import graph_hash
from metronn.ir.types import TensorType
from metronn.plan.design import Design, FpgaDesign
from metronn.plan.hardware.resources import RESOURCE_NAMES
from metronn.quantize.report import QuantizationReport

DIGEST = "digest"
FORMAT = 1
"""Version of the file's form: raised when a key changes its meaning."""


def promises(design: Design) -> dict[str, Any]:
    """Return what the design promises: latency, distance of events, clock, and the resources of each FPGA.

    The latency counts from the first input beat, `input_cycles` is how long the beats of an event come in.
    """
    resources = {}
    for fpga in design.fpgas:
        budget = design.system.fpgas[fpga.index].budget
        used, ratios = fpga.resources, fpga.resources.utilisation(budget)
        resources[fpga.name] = {
            **used.as_dict(),
            "utilisation": {name: round(ratios[name], 6) for name in RESOURCE_NAMES},
            "budget": budget.as_dict(),
            "board": design.system.fpgas[fpga.index].board.name,
            "part": design.system.fpgas[fpga.index].part,
            "regions": _regions(design, fpga),
        }
    return {
        "latency_cycles": design.latency_cycles,
        "latency_ns": round(design.latency_ns, 6),
        "ii_cycles": design.ii_cycles,
        "input_cycles": design.input_cycles,
        "clock_mhz": design.system.clock_mhz,
        "resources": resources,
    }


def _regions(design: Design, fpga: FpgaDesign) -> dict[str, Any]:
    """Return what each super logic region holds, by its name: counts, and shares of its budget."""
    hardware, found = design.system.fpgas[fpga.index], {}
    for number, (name, budget) in enumerate(zip(hardware.device.region_names, hardware.region_budgets, strict=True)):
        used = fpga.resources_in(number)
        ratios = used.utilisation(budget)
        found[name] = {**used.as_dict(), "utilisation": {key: round(ratios[key], 6) for key in RESOURCE_NAMES}}
    return found


def hls_cycles(design: Design, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the II and the latency that the HLS of each FPGA is expected to reach; `promises` are those of the RTL."""
    interfaces = {fpga.name: f"hls/{top_name(fpga.name)}/interface.json" for fpga in design.fpgas}
    return {name: json.loads(files[path])["expected"] for name, path in interfaces.items() if path in files}


def port(name: str, kind: TensorType, model_name: str) -> dict[str, Any]:
    """Describe an input or output: value = code * 2**-frac; `frac` is a list where elements differ in it.

    `name` is the identifier that emitted code has, `model_name` what the framework calls it.
    """
    frac = kind.range.frac
    return {
        "name": name,
        "model_name": model_name,
        "shape": list(kind.shape),
        "width": kind.range.width_bits,
        "frac": frac if isinstance(frac, int) else list(frac),
        "signed": kind.range.signed,
    }


def ports(graph: Graph) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the descriptions of all inputs and of all outputs."""
    inputs = [port(node.name, node.type, node.source) for node in graph.inputs]
    return inputs, [port(output.name, graph.type_of(output.value), output.shown) for output in graph.outputs]


def build_manifest(
    design: Design,
    *,
    name: str,
    report: QuantizationReport | None,
    files: Mapping[str, bytes],
) -> dict[str, Any]:
    """Return the manifest of a build, no rung run yet; `files` are all but manifest.json and report.html."""
    inputs, outputs = ports(design.graph)
    quantization = None if report is None else report.to_json()
    return {
        "format": FORMAT,
        "name": name,
        "prefix": design.prefix,
        "tool_version": __version__,
        "graph_hash": graph_hash(design.graph),
        "system": design.system.name,
        "promises": promises(design),
        "hls": hls_cycles(design, files),
        "verdicts": [],
        "inputs": inputs,
        "outputs": outputs,
        "metric": None if quantization is None else quantization["metric"],
        "quantization": quantization,
        "files": {path: hashlib.sha256(content).hexdigest() for path, content in sorted(files.items())},
    }


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """Return the manifest as written to the file, its digest last. Raises ValueError for NaN or infinite numbers."""
    return json.dumps(with_digest(manifest), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def with_digest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with its digest, by which changes of the file are seen."""
    return {**manifest, DIGEST: manifest_digest(manifest)}


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything that a manifest says but its digest."""
    said = {key: value for key, value in manifest.items() if key != DIGEST}
    return hashlib.sha256(json.dumps(said, allow_nan=False).encode()).hexdigest()
