"""Quantizers of QKeras as they stand in files: a name and arguments, from a string or a serialized object.

Signatures are those of qkeras 0.9.0 (Keras 2) and qkeras-v3 1.2.1 (Keras 3), which agree where both have a quantizer;
`quantized_linear` is new in the latter. Strings such as "quantized_bits(6,0,alpha=1)" are parsed, never evaluated.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from metronn.frontends.common.builder import LayerProblem

Singles = npt.NDArray[np.float32]

_NOISE: tuple[tuple[str, Any], ...] = (
    ("qnoise_factor", 1.0),
    ("var_name", None),
    ("use_ste", True),
    ("use_variables", False),
)
_FIXED: tuple[tuple[str, Any], ...] = (
    ("alpha", None),
    ("use_stochastic_rounding", False),
    ("scale_axis", None),
)

SIGNATURES: Mapping[str, Mapping[str, Any]] = {
    "bernoulli": {"alpha": None, "temperature": 6.0, "use_real_sigmoid": True},
    "binary": {
        "use_01": False,
        "alpha": None,
        "training": False,
        "use_stochastic_rounding": False,
        "scale_axis": None,
        "elements_per_scale": None,
        "min_po2_exponent": None,
        "max_po2_exponent": None,
    },
    "quantized_bits": {
        "bits": 8,
        "integer": 0,
        "symmetric": 0,
        "keep_negative": True,
        **dict((*_FIXED, *_NOISE)),
        "elements_per_scale": None,
        "min_po2_exponent": None,
        "max_po2_exponent": None,
        "post_training_scale": None,
    },
    "quantized_hswish": {
        "bits": 8,
        "integer": 0,
        "symmetric": 0,
        **dict(_FIXED),
        "qnoise_factor": 1.0,
        "var_name": None,
        "use_variables": False,
        "relu_shift": 3,
        "relu_upper_bound": 6,
        "keep_negative": True,
        "post_training_scale": None,
    },
    "quantized_linear": {
        "bits": 8,
        "integer": 0,
        "symmetric": 1,
        "keep_negative": True,
        **dict(_FIXED),
        "qnoise_factor": 1.0,
        "var_name": None,
        "use_variables": False,
    },
    "quantized_po2": {
        "bits": 8,
        "max_value": None,
        "use_stochastic_rounding": False,
        "quadratic_approximation": False,
        "log2_rounding": "rnd",
        **dict(_NOISE),
    },
    "quantized_relu": {
        "bits": 8,
        "integer": 0,
        "use_sigmoid": 0,
        "negative_slope": 0.0,
        "use_stochastic_rounding": False,
        "relu_upper_bound": None,
        "is_quantized_clip": True,
        **dict(_NOISE),
    },
    "quantized_relu_po2": {
        "bits": 8,
        "max_value": None,
        "negative_slope": 0,
        "use_stochastic_rounding": False,
        "quadratic_approximation": False,
        "log2_rounding": "rnd",
        **dict(_NOISE),
    },
    "quantized_sigmoid": {
        "bits": 8,
        "symmetric": False,
        "use_real_sigmoid": False,
        "use_stochastic_rounding": False,
    },
    "quantized_tanh": {"bits": 8, "use_stochastic_rounding": False, "symmetric": False, "use_real_tanh": False},
    "quantized_ulaw": {"bits": 8, "integer": 0, "symmetric": 0, "u": 255.0},
    "stochastic_binary": {"alpha": None, "temperature": 6.0, "use_real_sigmoid": True},
    "stochastic_ternary": {
        "alpha": None,
        "threshold": None,
        "temperature": 8.0,
        "use_real_sigmoid": True,
        "number_of_unrolls": 5,
    },
    "ternary": {"alpha": None, "threshold": None, "use_stochastic_rounding": False, "number_of_unrolls": 5},
}
"""Arguments of each quantizer in their order, with their defaults."""

LIMITED = {"quantized_hswish": ("relu_shift", "relu_upper_bound")}
"""Arguments that must be positive."""


@dataclass(frozen=True, slots=True)
class Quantizer:
    """A quantizer: its name, and every argument."""

    name: str
    arguments: Mapping[str, Any]

    def number(self, key: str) -> float:
        """Return a numeric argument; raises LayerProblem when it is none."""
        value = self.arguments[key]
        if isinstance(value, bool | int | float):
            return float(value)
        raise LayerProblem(f"{self.name}: {key} is {value!r}, a number is needed")

    def whole(self, key: str) -> int:
        """Return a whole argument; raises LayerProblem when it is none."""
        value = self.number(key)
        if value != int(value) or abs(value) > 128:
            raise LayerProblem(f"{self.name}: {key} is {value:g}, a whole number up to 128 is needed")
        return int(value)

    def flag(self, key: str) -> bool:
        """Return whether an argument is true or not zero."""
        return bool(self.arguments[key])

    @property
    def automatic(self) -> str | None:
        """'auto' or 'auto_po2' when the scale follows from the values; raises LayerProblem on other words."""
        alpha = self.arguments.get("alpha")
        if not isinstance(alpha, str):
            return None
        if alpha not in ("auto", "auto_po2"):
            raise LayerProblem(f"{self.name}: alpha is {alpha!r}; auto, auto_po2, a number or nothing is allowed")
        return alpha

    @property
    def alpha(self) -> Singles | None:
        """The fixed factor, a number or an array, in the float32 that QKeras makes of it."""
        value = self.arguments.get("alpha")
        return None if value is None or isinstance(value, str) else self.array("alpha")

    def array(self, key: str) -> Singles:
        """Return an argument as float32; raises LayerProblem when it is not numeric or not finite."""
        try:
            array = np.asarray(self.arguments[key], dtype=np.float32)
        except (TypeError, ValueError):
            raise LayerProblem(f"{self.name}: {key} is {self.arguments[key]!r}, numbers are needed") from None
        if not np.isfinite(array).all():
            raise LayerProblem(f"{self.name}: {key} has NaN or infinite values")
        return array

    def trainable(self) -> Quantizer:
        """Return what QKeras makes of a quantizer of a kernel: without alpha, the scale is found from the values."""
        if "alpha" not in self.arguments or self.arguments["alpha"] is not None:
            return self
        changed = {"alpha": "auto_po2", **({"symmetric": True} if "symmetric" in self.arguments else {})}
        return replace(self, arguments={**self.arguments, **changed})


def quantizer_name(value: object) -> str | None:
    """Return the name when the value names a quantizer of QKeras, else None."""
    if isinstance(value, dict):
        name = value.get("class_name")
        if name == "function" and isinstance(value.get("config"), str):
            name = value["config"]
    elif isinstance(value, str):
        name = value.split("(")[0].strip()
    else:
        return None
    name = str(name).removeprefix("qkeras>").removeprefix("qkeras.quantizers.")
    return name if name in SIGNATURES else None


def parse_quantizer(value: object) -> Quantizer:
    """Read a quantizer from its string or its serialized form; raises LayerProblem."""
    name = quantizer_name(value)
    if name is None:
        shown = value.get("class_name") if isinstance(value, dict) else value
        raise LayerProblem(f"quantizer {shown!r} is not known; known are {', '.join(SIGNATURES)}")
    signature = SIGNATURES[name]
    if isinstance(value, dict):
        config = value.get("config")
        given = {str(k): _plain(v) for k, v in config.items()} if isinstance(config, dict) else {}
        given.pop("name", None)
    else:
        given = _arguments(str(value), tuple(signature))
    unknown = [key for key in given if key not in signature]
    if unknown:
        raise LayerProblem(f"{name}: argument {', '.join(unknown)} is not known; known are {', '.join(signature)}")
    quantizer = Quantizer(name, {**signature, **given})
    _check(quantizer)
    return quantizer


def refusal(value: object, *, of_values: bool) -> str | None:
    """Return why a quantizer cannot be exact, or None; `of_values` when it acts on values of an event.

    Raises LayerProblem when it cannot be read at all.
    """
    quantizer = parse_quantizer(value)
    if quantizer.name == "bernoulli":
        return "bernoulli (it draws random numbers, at inference too)"
    if quantizer.arguments.get("elements_per_scale") is not None:
        return f"{quantizer.name} with elements_per_scale (QKeras does not keep it in files)"
    fixed = quantizer.arguments.get("post_training_scale") is not None
    if of_values and quantizer.automatic and not fixed:
        return f"{quantizer.name} with alpha {quantizer.automatic} (the scale would depend on the batch)"
    return None


def _check(quantizer: Quantizer) -> None:
    """Raise LayerProblem on arguments that QKeras refuses too, or computes NaN with."""
    arguments = quantizer.arguments
    if "bits" in arguments:
        bits = quantizer.whole("bits")
        least = 2 if quantizer.automatic and quantizer.name == "quantized_bits" else 1
        if bits < least:
            raise LayerProblem(f"{quantizer.name}: bits is {bits}, at least {least} are needed")
    slope = arguments.get("negative_slope")
    if slope is not None and (quantizer.number("negative_slope") < 0 or (slope and np.frexp(slope)[0] != 0.5)):
        raise LayerProblem(f"{quantizer.name}: negative_slope is {slope}, 0 or a power of two is needed")
    if arguments.get("log2_rounding", "rnd") not in ("rnd", "floor"):
        raise LayerProblem(f"{quantizer.name}: log2_rounding is {arguments['log2_rounding']!r}; rnd, floor are allowed")
    for key in LIMITED.get(quantizer.name, ()):
        if quantizer.number(key) <= 0:
            raise LayerProblem(f"{quantizer.name}: {key} is {arguments[key]}, a positive number is needed")


def _arguments(text: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Read the arguments of a call written as text; raises LayerProblem."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return {}
        if not isinstance(tree, ast.Call) or len(tree.args) > len(names):
            raise ValueError
        given = {name: ast.literal_eval(value) for name, value in zip(names, tree.args, strict=False)}
        for keyword in tree.keywords:
            if keyword.arg is None or keyword.arg in given:
                raise ValueError
            given[keyword.arg] = ast.literal_eval(keyword.value)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise LayerProblem(f"quantizer {text!r} is not of the form name(value, ..., name=value)") from None
    return given


def _plain(value: object) -> object:
    """Unwrap arrays and numbers as Keras 3 serializes them."""
    if isinstance(value, dict) and isinstance(value.get("config"), dict) and "value" in value["config"]:
        return value["config"]["value"]
    if isinstance(value, dict) and "value" in value:
        return value["value"]
    return value
