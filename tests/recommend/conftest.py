"""What ships to try things on, and a made-up table of trials whose law is known: what compression costs depends on the model and the setting."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from compresskit.data import Dataset, interface, read_data
from compresskit.models.graph import ModelGraph
from compresskit.models.load import load_model
from compresskit.recommend.features import KEPT, ROUNDED
from compresskit.recommend.settings import grid
from compresskit.recommend.table import Problem, Table, Trial
from compresskit.requests import CompressRequest

SAMPLES = Path(__file__).parents[2] / "sample_data"
HARM = {"level": 2.0, "level-tuned": 0.6, "l1": 1.0, "slimming": 0.9, "taylor": 0.95, "l1l2": 0.85, "none": 0.0}
ROUGH = {"none": 0.0, "uniform": 1.5, "dorefa": 0.8, "lsq": 0.5}


def made_up(models: int = 6, noise: float = 0.005, seed: int = 0) -> Table:
    """Trials of `models` models, each with a toughness that its features tell."""
    rng = np.random.default_rng(seed)
    problems, trials = {}, []
    for index in range(models):
        tough = float(rng.random())
        features = {"loss": tough, "log_parameters": 4 + 2 * float(rng.random()), "depth": float(rng.integers(5, 50))}
        features |= {f"kept_energy_{kept:g}": kept ** (0.3 + 0.5 * tough) for kept in KEPT}
        features |= {f"kept_channels_{kept:g}": kept ** (0.5 + 0.3 * tough) for kept in KEPT}
        features |= {f"rounding_db_{bits}": 6 * bits - 8 * tough for bits in ROUNDED}
        problem = Problem(f"m{index}/d", f"m{index}", "d", 0.8 + 0.1 * float(rng.random()), 0.1, features)
        problems[problem.name] = problem
        for setting in grid(sparsities=(0.5, 0.75, 0.94), bits=(8, 4, 2)):
            harm = HARM[setting.pruner] * setting.sparsity**3 * (0.5 + tough) + ROUGH[setting.quantizer] * 2.0 ** (1 - setting.bits) * (1 + tough)
            retained = math.exp(-harm) + noise * float(rng.normal())
            trials.append(Trial(problem.name, setting, problem.quality(retained), 1 - setting.sparsity, 1.0, "small"))
    return Table(problems, tuple(trials))


@pytest.fixture(scope="session")
def table() -> Table:
    return made_up()


@pytest.fixture(scope="session")
def graph() -> ModelGraph:
    """A residual network for digits."""
    return load_model(SAMPLES / "digits_resnet.pt")


@pytest.fixture(scope="session")
def data(graph: ModelGraph) -> Dataset:
    """The digits."""
    return read_data(CompressRequest("", data=str(SAMPLES / "digits.npz")), interface(graph), seed=0)
