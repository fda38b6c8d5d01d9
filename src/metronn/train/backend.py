"""Keras, HGQ2 and what is asked of them: imported here, when training starts, and nowhere else."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any, TypeAlias

from metronn.errors import ToolError

KerasObject: TypeAlias = Any
"""A Keras model, layer, variable or module: Keras has no types of its own."""

INSTALL = "pip install 'metronn[train]'"


@dataclass(frozen=True, slots=True)
class Backend:
    """The modules `keras`, and `hgq` where quantized training was asked for (else None)."""

    keras: KerasObject
    hgq: KerasObject


def load_backend(verb: str, *, quantized: bool = True) -> Backend:
    """Import Keras (on JAX unless KERAS_BACKEND says otherwise), and HGQ2.

    Raises ToolError, which names `verb` and the extra to install, where one of them is missing or broken.
    """
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    found: list[KerasObject] = []
    for name in ("keras", "hgq.layers") if quantized else ("keras",):
        try:
            found.append(importlib.import_module(name))
        except ImportError as error:
            raise ToolError(
                f"{verb}: {name.partition('.')[0]} cannot be imported ({error}); training needs it.\n  {INSTALL}"
            ) from None
    if quantized:
        import keras  # noqa: PLC0415 - an optional dependency

        if keras.backend.backend() not in ("jax", "tensorflow", "torch"):
            raise ToolError(
                f"{verb}: the Keras backend is {keras.backend.backend()}, which cannot train.\n  Set KERAS_BACKEND=jax."
            )
    return Backend(found[0], sys.modules["hgq"] if quantized else None)


def seed_everything(backend: Backend, seed: int) -> None:
    """Give all random numbers of Keras, Python and NumPy one start, and the numbers in the names of layers.

    HGQ2 draws seeds of its quantizers from NumPy.
    """
    backend.keras.utils.clear_session(free_memory=False)
    backend.keras.utils.set_random_seed(seed % (1 << 32))
