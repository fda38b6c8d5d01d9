"""The simulation folder of a build: what failed fails again, what changed is seen, nothing counts as done."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from metronn.emit.build import emit_build
from metronn.emit.data import data_directory
from metronn.ir.builder import GraphBuilder
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.plan.system import load_system
