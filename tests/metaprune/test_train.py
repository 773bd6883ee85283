"""Meta-training: its gradients against one pass through everything, its epochs, its guards, and going on from a checkpoint."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from compresskit.data import Dataset
from compresskit.data.batches import batches
from compresskit.errors import GuardError, InputError, UsageError
from compresskit.metaprune.config import MetatrainConfig
from compresskit.metaprune.network import Metanetwork, rewrite, save
from compresskit.metaprune.pna_blocks import Update
from compresskit.metaprune.train import data_model, meta_objective, metatrain
from compresskit.models.graph import ModelGraph
from compresskit.training import checkpoints
from compresskit.training.objectives import loss
from compresskit.training.tuning import Checkpointing

CONFIG = MetatrainConfig(epochs=3, batch_size=50, accumulate=2, milestones=(2,), pruner_reg=0.5, layers=2, width=8)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


class Notes:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def stage(self, name: str, total: int | None = None) -> None: ...
    def advance(self, steps: int = 1, **figures: float) -> None: ...
    def note(self, message: str) -> None:
        self.notes.append(message)


def gradients(metanetwork: Metanetwork, value: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, list(metanetwork.parameters()), allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("criterion", ["l2", "weights"])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_objective_is_accuracy_plus_sparsity(
    plain_net: ModelGraph, digits: Dataset, metanetwork: Metanetwork, criterion: str, parts: int
) -> None:
    """The same loss and gradient as with one graph through rewriting, network and losses; parts of a batch have norms of their own."""
    model = data_model(plain_net, replace(CONFIG, criterion=criterion))
    x, y = next(batches(digits.train, digits.normalization, 60))
    found = meta_objective([model], pruner_reg=0.5, batch_size=60 // parts)(metanetwork, x, y)

    new = {**model.tensors, **rewrite(metanetwork, model.layout, model.tensors)}
    buffers = {name: tensor.clone() for name, tensor in model.module.named_buffers()}
    shares = [loss(functional_call(model.module, {**new, **buffers}, (a,)), b) for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True)]
    expected = torch.stack(shares).mean() + 0.5 * model.sparsity.loss(new)
    assert torch.allclose(found, expected, rtol=1e-4)
    for actual, reference in zip(gradients(metanetwork, found), gradients(metanetwork, expected), strict=True):
        assert torch.allclose(actual, reference, rtol=1e-3, atol=1e-5 * float(reference.abs().max() + 1))


@pytest.mark.parametrize("failures", [1, 2])
def test_where_memory_runs_out_on_the_way_back_less_is_kept(
    plain_net: ModelGraph, digits: Dataset, metanetwork: Metanetwork, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """To the same gradients; and where that does not help, it is said what it takes."""
    objective = meta_objective([data_model(plain_net, CONFIG)], pruner_reg=0.5, batch_size=60)
    x, y = next(batches(digits.train, digits.normalization, 60))
    expected = gradients(metanetwork, objective(metanetwork, x, y))
    whole, missing = Update.backward, iter(range(failures))

    def tight(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if next(missing, None) is not None:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return whole(ctx, gradient)

    monkeypatch.setattr(Update, "backward", staticmethod(tight))
    if failures > 1:
        with pytest.raises(InputError, match="not enough memory for the metanetwork: 224 edges of 8 numbers"):
            objective(metanetwork, x, y)
        return
    found = gradients(metanetwork, objective(metanetwork, x, y))
    assert next(missing, None) is None
    assert all(torch.allclose(one, other) for one, other in zip(found, expected, strict=True))


def test_networks_and_their_statistics_stay_as_they_are(plain_net: ModelGraph, digits: Dataset, metanetwork: Metanetwork) -> None:
    before = {name: tensor.clone() for name, tensor in plain_net.module.state_dict().items()}
    model = data_model(plain_net, CONFIG)
    tensors = {name: tensor.clone() for name, tensor in model.tensors.items()}
    x, y = next(batches(digits.train, digits.normalization, 60))
    meta_objective([model], pruner_reg=0.5, batch_size=30)(metanetwork, x, y)
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain_net.module.state_dict().items())
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.tensors.items())


def test_every_update_draws_one_of_the_networks(plain_net: ModelGraph, digits_net: ModelGraph, digits: Dataset, metanetwork: Metanetwork) -> None:
    models = [data_model(graph, CONFIG) for graph in (plain_net, digits_net)]
    x, y = next(batches(digits.train, digits.normalization, 20))
    single = {round(float(meta_objective([model], pruner_reg=0.5, batch_size=20)(metanetwork, x, y).detach()), 3) for model in models}
    objective = meta_objective(models, pruner_reg=0.5, batch_size=20)
    drawn = {round(float(objective(metanetwork, x, y).detach()), 3) for _ in range(12)}
    assert drawn == single
    assert len(drawn) == 2


def test_networks_become_sparser_and_each_epoch_is_kept(plain_net: ModelGraph, digits: Dataset, metanetwork: Metanetwork) -> None:
    kept: dict[int, bytes] = {}
    config = replace(CONFIG, learning_rate=1e-2, pruner_reg=1.0, normalize="none", alpha=0.0, relative=False)  # with these the loss has no constants
    model = data_model(plain_net, config)
    before = float(model.sparsity.loss({**model.tensors, **rewrite(metanetwork, model.layout, model.tensors)}).detach())
    history = metatrain(metanetwork, [plain_net], digits, config, keep=lambda epoch: kept.update({epoch: save(metanetwork)}))
    after = float(model.sparsity.loss({**model.tensors, **rewrite(metanetwork, model.layout, model.tensors)}).detach())
    assert after < before
    assert sorted(kept) == [1, 2, 3]
    assert kept[3] == save(metanetwork)
    assert len(set(kept.values())) == 3
    assert [round(record.lr, 6) for record in history] == [1e-2, 1e-2, 1e-3]


def test_weights_that_are_not_finite_stop_it(plain_net: ModelGraph, digits: Dataset, metanetwork: Metanetwork) -> None:
    broken = plain_net.with_module(copy.deepcopy(plain_net.module))
    with torch.no_grad():
        next(broken.module.parameters()).fill_(torch.nan)
    before = save(metanetwork)
    with pytest.raises(GuardError, match="training stopped at step 1"):
        metatrain(metanetwork, [broken], digits, CONFIG, keep=lambda epoch: None)
    assert save(metanetwork) == before


def test_going_on_from_a_truncated_checkpoint_ends_at_the_same_metanetwork(
    plain_net: ModelGraph, digits: Dataset, metanetwork: Metanetwork, tmp_path: Path
) -> None:
    """The newest is damaged: the one before it serves, which is said."""
    whole = copy.deepcopy(metanetwork)
    metatrain(whole, [plain_net], digits, CONFIG, keep=lambda epoch: None)

    class StoppedError(Exception): ...

    def stop(epoch: int) -> None:
        if epoch == 2:
            raise StoppedError

    path = tmp_path / "state"
    with pytest.raises(StoppedError):
        metatrain(copy.deepcopy(metanetwork), [plain_net], digits, CONFIG, keep=stop, checkpointing=Checkpointing(path, minutes=0))
    path.write_bytes(path.read_bytes()[:1000])
    assert checkpoints.previous(path).exists()
    notes = Notes()
    metatrain(metanetwork, [plain_net], digits, CONFIG, keep=lambda epoch: None, checkpointing=Checkpointing(path, resume=True), progress=notes)
    assert any("missing or damaged: continuing from the checkpoint before it" in note for note in notes.notes)
    assert save(metanetwork) == save(whole)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"milestones": (0,)}, {"pruner_reg": -1.0}, {"criterion": "l3"}, {"tolerance": 1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="takes"):
        replace(CONFIG, **wrong)  # type: ignore[arg-type]
