"""Quantization-aware training of the sample network: what is learned, what is emitted, what comes back after an interruption."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compresskit.data import Dataset, load_data
from compresskit.errors import InputError, UsageError
from compresskit.models.graph import ModelGraph
from compresskit.models.load import load_model
from compresskit.models.sessions import run
from compresskit.pruning.config import PruneConfig
from compresskit.pruning.engine import prune
from compresskit.quantization.config import METHODS, QuantizeConfig
from compresskit.quantization.engine import quantize
from compresskit.quantization.qat import engine
from compresskit.quantization.qat.engine import fake_quantized, train_quantized
from compresskit.quantization.qat.handover import hand_over
from compresskit.quantization.qat.network import trainable
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.quantizers import QUANTIZERS, FakeQuant
from compresskit.quantization.weights import quantized_bias
from compresskit.training.tuning import Checkpointing

SAMPLE = Path(__file__).parents[3] / "sample_data"
CONFIG = QuantizeConfig(weights=2, activations=2, method="lsq", samples=64, epochs=1.0, batch_size=64, learning_rate=2e-3, rounding="nearest")
Start = Callable[[QuantizeConfig], Quantized]


@pytest.fixture(scope="session")
def net() -> ModelGraph:
    """A residual network trained on digits."""
    return load_model(str(SAMPLE / "digits_resnet.pt"))


@pytest.fixture(scope="session")
def digits(net: ModelGraph) -> Dataset:
    """Its data."""
    shape = tuple(size for size in net.inputs[0].shape[1:] if size is not None)
    return load_data(str(SAMPLE / "digits.npz"), input_shape=shape, outputs=10, checkpoint_normalization=net.normalization)


@pytest.fixture(scope="session")
def start(net: ModelGraph, digits: Dataset) -> Start:
    """Post-training quantization, once a width."""
    seen: dict[Any, Quantized] = {}

    def make(config: QuantizeConfig) -> Quantized:
        key = (config.weights, config.activations)
        if key not in seen:
            seen[key] = quantize(net, digits, dataclasses.replace(config, method="ptq"))
        return seen[key]

    return make


def _logits(done: Quantized, x: np.ndarray) -> np.ndarray:
    return run(done.model.SerializeToString(), {done.network.inputs[0]: x})[0]


def _inputs(data: Dataset, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    test = data.test or data.validation
    mean, std = (np.float32(np.reshape(values, (-1, 1, 1))) for values in (data.normalization.mean, data.normalization.std))
    x = test.x[:count]
    return ((x / np.float32(255) if x.dtype == np.uint8 else x) - mean) / std, test.y[:count]


def _accuracy(done: Quantized, data: Dataset) -> float:
    x, y = _inputs(data)
    return float((_logits(done, x).argmax(1) == y).mean())


@pytest.mark.parametrize("method", [method for method in METHODS if method != "ptq"])
def test_training_gains_accuracy_and_the_emitted_model_is_what_was_trained(method: Any, start: Start, digits: Dataset) -> None:
    config = dataclasses.replace(CONFIG, method=method)
    before = start(config)
    done = train_quantized(before, digits, config)
    assert _accuracy(done, digits) > _accuracy(before, digits) + 0.02
    assert done.integrity is not None
    assert done.integrity.equal >= 0.999
    assert {grid.bits for grid in (*done.weights.values(), *done.activations.values())} == {2}
    assert done.plan is not None
    weights = {name: FakeQuant(grid) for name, grid in done.weights.items()}
    activations = {members[0]: FakeQuant(done.activations[members[0]]) for members in done.plan.sets}
    x, _ = _inputs(digits)
    found = trainable(done.network, done.plan, weights, activations)(torch.from_numpy(x)).detach().numpy()
    want = _logits(done, x)
    step = float(done.activations[done.layers[-1].input].scale) * np.abs(done.network.constants[done.layers[-1].weight]).max()
    assert np.mean(np.abs(found - want) <= step) > 0.99
    assert (found.argmax(1) == want.argmax(1)).mean() > 0.99


def test_without_epochs_training_changes_nothing(start: Start, digits: Dataset) -> None:
    config = dataclasses.replace(CONFIG, weights=8, activations=8, epochs=0.0)
    before = start(config)
    done = train_quantized(before, digits, config)
    for layer in before.layers:
        assert np.allclose(done.network.constants[layer.weight], before.network.constants[layer.weight], rtol=1e-5, atol=1e-7)
        assert np.allclose(done.weights[layer.weight].scale, before.weights[layer.weight].scale, rtol=1e-5)
    assert _accuracy(done, digits) == pytest.approx(_accuracy(before, digits), abs=0.01)


def test_steps_grow_where_a_bias_would_not_fit_its_bits(start: Start, digits: Dataset) -> None:
    module = fake_quantized(start(CONFIG), digits, CONFIG)
    layer = module.plan.layers[1]
    assert layer.bias is not None
    with torch.no_grad():
        module.weight_module(layer.weight).scale[0] = 1e-11  # type: ignore[union-attr, index]
        module.parameter(layer.bias)[0] = 100.0
    handed = hand_over(module)
    grid, read = handed.weights[layer.weight], handed.activations[layer.input]
    integers, scale = quantized_bias(handed.network.constants[layer.bias], read, grid)
    assert integers[0] * scale[0] == pytest.approx(100, rel=1e-4)
    assert np.array_equal(grid.scale[1:], module.weight_module(layer.weight).grid().scale[1:])  # type: ignore[union-attr]


def test_an_interrupted_training_ends_in_the_same_bits(start: Start, digits: Dataset, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, method="uniform", epochs=0.5)
    want = train_quantized(start(config), digits, config).model.SerializeToString()

    class Kill:
        """Ends the run at its fifth step."""

        count = 0

        def stage(self, name: str, total: int | None = None) -> None: ...
        def note(self, message: str) -> None: ...

        def advance(self, steps: int = 1, **figures: float) -> None:
            self.count += 1 if figures else 0
            if self.count == 5:
                raise KeyboardInterrupt

    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        train_quantized(start(config), digits, config, kept=Checkpointing(path, minutes=0), progress=Kill())
    assert train_quantized(start(config), digits, config, kept=Checkpointing(path, resume=True)).model.SerializeToString() == want


def test_observers_stand_still_after_their_share_of_the_steps(start: Start, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    after_step = engine._after_step

    def spy(module: Any, data: Any, settings: Any) -> Any:
        own = after_step(module, data, settings)

        def both(step: int) -> None:
            own(step)  # type: ignore[misc]
            seen.append(bool(next(one for one in module.modules() if hasattr(one, "watching")).watching))

        return both

    monkeypatch.setattr(engine, "_after_step", spy)
    config = dataclasses.replace(CONFIG, method="uniform", epochs=0.5)
    train_quantized(start(config), digits, config)
    assert seen[0]
    assert not seen[-1]
    assert sum(seen) == pytest.approx(len(seen) / 2, abs=1)


def test_labels_beyond_the_outputs_are_refused(start: Start, digits: Dataset) -> None:
    more = dataclasses.replace(digits, train=dataclasses.replace(digits.train, y=digits.train.y + 5), classes=15)
    with pytest.raises(InputError, match="the labels run from 5 to 14, but the model has 10 outputs"):
        train_quantized(start(CONFIG), more, CONFIG)


def test_methods_said_twice_are_the_same() -> None:
    assert ("ptq", *sorted(QUANTIZERS, key=METHODS.index)) == METHODS
    with pytest.raises(UsageError, match="unknown --method 'lqs'"):
        QuantizeConfig(method="lqs")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["lsq", "ste"])
def test_weights_that_pruning_set_to_zero_stay_zero(net: ModelGraph, digits: Dataset, method: Any) -> None:
    sparse = prune(net, None, PruneConfig(sparsity=0.7, pattern="unstructured")).graph
    config = dataclasses.replace(CONFIG, method=method, weights=4, activations=8, epochs=0.5)
    done = train_quantized(quantize(sparse, digits, dataclasses.replace(config, method="ptq")), digits, config)
    zeros = sum(int((done.weights[layer.weight].quantize(done.network.constants[layer.weight]) == 0).sum()) for layer in done.layers)
    count = sum(done.network.constants[layer.weight].size for layer in done.layers)
    assert zeros >= 0.7 * count - 1
