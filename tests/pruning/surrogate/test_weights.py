"""Masks on single weights: nothing changes when they are put on, the sparsity is exact, and every M keep N."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compresskit.data.dataset import Dataset
from compresskit.errors import GuardError, TargetError, UsageError
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.pruning.sparsity import sparse_weights
from compresskit.pruning.surrogate.cost import WeightCount
from compresskit.pruning.surrogate.norms import NORMS
from compresskit.pruning.surrogate.weights import MaskedWeights
from compresskit.training.tuning import Checkpointing

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = PruneConfig(sparsity=0.8, method="l1l2", epochs=2.0, batch_size=32)


def _masked(graph: ModelGraph, seed: int = 0) -> MaskedWeights:
    names = tuple(sparse_weights(graph.module))
    entries = sum(weight.numel() for weight in sparse_weights(graph.module).values())
    return MaskedWeights(graph.module, names, torch.rand(entries, generator=torch.Generator().manual_seed(seed)) + 0.2, torch.zeros(1, 3)).eval()


def test_masks_change_nothing_when_put_on_and_fold_away(small_net: ModelGraph) -> None:
    masked, (x,) = _masked(small_net), small_net.example(3)
    with torch.no_grad():
        assert torch.allclose(masked(x), small_net.module.eval()(x), atol=1e-5)
        masked.mask.mul_(torch.rand_like(masked.mask) < 0.5)
        wanted = masked(x)
        masked.fold(masked.mask)
        assert torch.equal(masked.network(x), wanted)
    zeros = [int((weight == 0).sum()) for weight in sparse_weights(masked.network).values()]
    assert sum(zeros) == int((masked.mask == 0).sum())


def test_masks_of_ones_cost_the_weights_and_l1l2_is_blind_to_scale() -> None:
    counted = WeightCount(torch.tensor([0, 0, 0, 1, 1, 1, 1, 2]))
    ones = torch.ones(8)
    assert float(counted(ones, NORMS["l1l2"])) == pytest.approx(8)
    assert float(counted(torch.tensor([5.0, 5, 5, 1, 1, 1, 1, 9]), NORMS["l1l2"])) == pytest.approx(8)
    assert float(counted.standing(torch.tensor([5.0, 0, 5, 1, 0, 0, 1, 9]))) == 5


@pytest.mark.parametrize("sparsity", [0.3, 0.8, 0.97])
def test_the_sparsity_is_exact_and_the_path_leads_there(digits_net: ModelGraph, digits: Dataset, sparsity: float) -> None:
    result = prune(digits_net, digits, replace(CONFIG, sparsity=sparsity))
    weights = sparse_weights(result.graph.module).values()
    count = sum(weight.numel() for weight in weights)
    assert sum(int((weight == 0).sum()) for weight in weights) == round(sparsity * count)
    assert all(weight.any() for weight in weights)
    assert result.met
    assert result.path[0].cost > result.path[-1].cost
    assert result.history[-1].validation is not None


@pytest.mark.parametrize(("pattern", "stay", "size"), [("2:4", 2, 4), ("1:4", 1, 4), ("3:8", 3, 8)])
def test_every_m_keep_n(digits_net: ModelGraph, digits: Dataset, pattern: str, stay: int, size: int) -> None:
    result = prune(digits_net, digits, replace(CONFIG, sparsity=1 - stay / size, pattern=pattern))
    assert [skip.group for skip in result.skipped] == ["conv1.weight"]  # it has one input
    for name, weight in sparse_weights(result.graph.module).items():
        if name != "conv1.weight":
            assert (weight.movedim(1, -1).unflatten(-1, (-1, size)).count_nonzero(-1) == stay).all()


def test_parameters_may_be_the_target(digits_net: ModelGraph, digits: Dataset) -> None:
    config = PruneConfig(target=Target("params", 0.4), pattern="unstructured", method="l1l2", epochs=1.0, batch_size=32)
    result = prune(digits_net, digits, config)
    assert result.reached == pytest.approx(0.4, abs=1e-3)


def test_without_epochs_magnitudes_alone_decide(digits_net: ModelGraph, digits: Dataset) -> None:
    learned, classic = (prune(digits_net, digits, replace(CONFIG, method=method, epochs=0.0)) for method in ("l1l2", "classic"))
    assert learned.path == ()
    for one, other in zip(sparse_weights(learned.graph.module).values(), sparse_weights(classic.graph.module).values(), strict=True):
        assert ((one != 0) == (other != 0)).float().mean() > 0.998  # of a layer where nothing would be left, one weight stays
        assert torch.allclose(one, other, rtol=1e-5)


class Killed(BaseException):
    """What a signal handler raises."""


class Killer:
    """A progress that raises in one training step."""

    def __init__(self, deadly: int) -> None:
        self.left = deadly

    def stage(self, name: str, total: int | None = None) -> None: ...

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.left -= steps
        if self.left < 0:
            raise Killed

    def note(self, message: str) -> None: ...


@pytest.mark.parametrize("deadly", [2, 7])  # of 4 steps of the search and 16 after it
def test_a_killed_run_goes_on_to_the_same_weights(small_net: ModelGraph, digits: Dataset, tmp_path: Path, deadly: int) -> None:
    kept = Checkpointing(tmp_path / "run", minutes=0.0)
    whole = prune(small_net, digits, CONFIG)
    with pytest.raises(Killed):
        prune(small_net, digits, CONFIG, checkpointing=kept, progress=Killer(deadly))
    resumed = prune(small_net, digits, CONFIG, checkpointing=replace(kept, resume=True))
    after = resumed.graph.module.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in whole.graph.module.state_dict().items())
    assert resumed.path == whole.path


def test_what_cannot_be_learned_is_refused(small_net: ModelGraph, digits: Dataset) -> None:
    with pytest.raises(UsageError, match="--method l1l2 learns from data"):
        prune(small_net, None, CONFIG)
    with pytest.raises(GuardError, match="lower the learning rate"):
        prune(small_net, digits, replace(CONFIG, learning_rate=1e30))
    nothing = graph_from_module(torch.nn.Flatten(), [TensorSpec("x", (None, 1, 8, 8))], source="nothing")
    with pytest.raises(TargetError, match="nothing can be made sparse"):
        prune(nothing, digits, CONFIG)
