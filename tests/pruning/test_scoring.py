"""The engine with saliencies: before training and after, channels and weights, and what is said about them."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch

from compresskit.data.dataset import Dataset
from compresskit.errors import UsageError
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.pruning.at_init import SALIENCIES as REGISTERED
from compresskit.pruning.config import SALIENCIES, Method, PruneConfig, Target
from compresskit.pruning.engine import prune

pytestmark = pytest.mark.usefixtures("one_thread")
CHANNELS = [name for name in SALIENCIES if "channels" in REGISTERED[name].granularities]
WEIGHTS = [name for name in SALIENCIES if "weights" in REGISTERED[name].granularities]
QUICK = PruneConfig(target=Target("flops", 0.5), method="3sp", init=True, epochs=0.2, batch_size=64)
ZEROS = PruneConfig(target=Target("params", 0.3), method="snip", pattern="unstructured", epochs=0.2, batch_size=64)


def test_the_names_are_what_is_registered() -> None:
    assert sorted(SALIENCIES) == sorted(REGISTERED)
    assert set(get_args(Method)) == {*SALIENCIES, "auto", "classic", "l1l2"}


@pytest.mark.parametrize("method", CHANNELS)
def test_every_saliency_of_channels_hits_a_target(small_net: ModelGraph, digits: Dataset, method: Method) -> None:
    result = prune(small_net, digits, replace(QUICK, method=method, epochs=0.0))
    assert result.reached == pytest.approx(total(result.graph).macs / total(small_net).macs)
    assert result.reached == pytest.approx(0.5, abs=0.05)  # a channel of the small network is worth 4% of its MACs


@pytest.mark.parametrize("method", WEIGHTS)
def test_every_saliency_of_weights_hits_a_target(small_net: ModelGraph, digits: Dataset, method: Method) -> None:
    result = prune(small_net, digits, replace(ZEROS, method=method))
    parameters = list(result.graph.module.parameters())
    zeros = sum(int((parameter == 0).sum()) for parameter in parameters if parameter.ndim > 1)
    count = sum(parameter.numel() for parameter in parameters)
    assert result.met
    assert (result.asked, result.reached) == (pytest.approx(0.3), pytest.approx(1 - zeros / count))
    assert result.reached == pytest.approx(0.3, abs=1 / count)


def test_weights_go_by_a_sparsity_too(small_net: ModelGraph, digits: Dataset) -> None:
    result = prune(small_net, digits, replace(ZEROS, target=None, sparsity=0.7, pattern=None))
    assert (result.asked, result.met) == (0.7, True)
    assert result.reached == pytest.approx(0.7, abs=1e-3)


def test_what_is_fresh_is_cut_as_it_is(small_net: ModelGraph, digits: Dataset) -> None:
    """Nothing takes over from channels that have learned nothing: weights that stay are those of before, scaled or drawn anew if asked."""
    plain, scaled, anew = (
        prune(small_net, digits, replace(QUICK, epochs=0.0, **extra)).graph.module.get_parameter("3.weight")
        for extra in ({}, {"rescale": True}, {"reinit": True})
    )
    before = small_net.module.get_parameter("3.weight").flatten()
    assert torch.isin(plain, before).all()
    assert not torch.isin(anew, before).any()
    ratio = scaled / plain
    torch.testing.assert_close(ratio, ratio[0, 0, 0, 0].expand_as(ratio))
    assert ratio[0, 0, 0, 0] >= 1


def test_compute_awareness_moves_the_cut(digits_net: ModelGraph, digits: Dataset) -> None:
    plain, aware, smooth = (
        prune(digits_net, digits, replace(QUICK, init=False, epochs=0.0, **extra)).graph
        for extra in ({}, {"compute_aware": True}, {"compute_aware": True, "smoothing": 1e6})
    )
    shapes = [[tuple(parameter.shape) for parameter in graph.module.parameters()] for graph in (plain, aware, smooth)]
    assert shapes[0] != shapes[1]
    assert shapes[0] == shapes[2]


def test_the_last_channel_of_a_group_stays_and_is_told_of(small_net: ModelGraph, digits: Dataset) -> None:
    result = prune(small_net, digits, replace(QUICK, target=Target("flops", 0.02), epochs=0.0))
    assert any(note.endswith("is down to its last channel") for note in result.notes)
    assert all(size >= 1 for parameter in result.graph.module.parameters() for size in parameter.shape)


def test_what_it_cannot_score_is_refused_before_any_work(small_net: ModelGraph, digits: Dataset) -> None:
    with pytest.raises(UsageError, match="method '3sp' needs data: give --data, or choose from"):
        prune(small_net, None, QUICK)
    with pytest.raises(UsageError, match="method 'snip' scores weights, not channels: choose from"):
        prune(small_net, digits, replace(QUICK, method="snip"))
