"""Landmarks: what single blows do to a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compresskit.data import Dataset
from compresskit.models.graph import ModelGraph
from compresskit.recommend.features import problem
from compresskit.recommend.probes import BLOWS, PROBED_BITS, PROBED_KEPT

SAMPLES = Path(__file__).parents[2] / "sample_data"


def test_harder_blows_leave_less_and_the_model_is_left_alone(graph: ModelGraph, data: Dataset) -> None:
    before = {name: tensor.clone() for name, tensor in graph.module.state_dict().items()}
    found = problem(graph, data).features
    assert all(torch.equal(before[name], tensor) for name, tensor in graph.module.state_dict().items())
    for kind, levels in (("level", PROBED_KEPT), ("channels", PROBED_KEPT), ("rounding", PROBED_BITS)):
        values = [found[f"probe_{kind}_{level:g}"] for level in levels]
        assert values[0] < values[-1]
        assert values[-1] == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("kept", PROBED_KEPT)
def test_as_many_weights_and_outputs_stay_as_asked(kept: float) -> None:
    whole = [torch.randn(40, 30), torch.randn(60, 40, 3, 3), torch.randn(10, 60)]
    level = BLOWS[f"probe_level_{kept:g}"].weights(whole)
    stay = sum(int(weight.count_nonzero()) for weight in level) / sum(weight.numel() for weight in whole)
    assert stay == pytest.approx(kept, abs=1e-3)
    least = min(float(weight[weight != 0].abs().min()) for weight in level if weight.any())
    assert all(float(w[s == 0].abs().max()) <= least for w, s in zip(whole, level, strict=True))
    *narrow, last = BLOWS[f"probe_channels_{kept:g}"].weights(whole)
    assert torch.equal(last, whole[-1])
    assert [int(weight.flatten(1).any(1).sum()) for weight in narrow] == [round(kept**0.5 * len(weight)) for weight in whole[:-1]]


@pytest.mark.parametrize("bits", PROBED_BITS)
def test_rounded_weights_take_as_many_values_as_their_bits_allow(bits: int) -> None:
    (weight,) = BLOWS[f"probe_rounding_{bits}"].weights([torch.randn(5, 400)])
    assert all(len(np.unique(row)) <= 2**bits - 1 for row in weight.numpy())
