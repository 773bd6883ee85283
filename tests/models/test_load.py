"""Whatever the user has becomes the same graph; what cannot is refused with the way out."""

from __future__ import annotations

import io
import logging
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as save_safetensors
from torch import nn

from compresskit.errors import CompresskitError, InputError, UntrustedError, UsageError
from compresskit.models import zoo
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.load import load_model

SHARED = Path(__file__).parents[2] / "../shared/data/models"
FACTORY = """
import torch
from torch import nn
from beside import WIDTH

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Flatten(), nn.Linear(WIDTH * 36, 5))

    def forward(self, x):
        return self.model(x)

def make():
    return Net()

def broken():
    raise RuntimeError("no such luck")

def number():
    return 3
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(FACTORY)
    (tmp_path / "beside.py").write_text("WIDTH = 4\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)  # torch reports what fails in traces
    for name in ("nets", "beside"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    return tmp_path


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"model": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))}).eval()


def saved(value: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def prefixed(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


X = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))

SAVINGS: dict[str, Callable[[dict[str, torch.Tensor]], bytes]] = {
    "zip": saved,
    "legacy": lambda state: saved(state, _use_new_zipfile_serialization=False),
    "safetensors": save_safetensors,
    "training state": lambda state: saved({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}, "history": [1.0, None]}),
    "wrapped twice": lambda state: saved({"net": {"state_dict": state}}),
    "DataParallel": lambda state: saved({"model": prefixed("module.", state)}),
    "compiled": lambda state: save_safetensors(prefixed("_orig_mod.", state)),
    "compiled DataParallel": lambda state: save_safetensors(prefixed("module._orig_mod.", state)),
    "Lightning": lambda state: saved({"state_dict": prefixed("net.", state)}),
    "without counters": lambda state: saved({key: value for key, value in state.items() if "num_batches" not in key}),
    "parameters": lambda state: saved({key: nn.Parameter(value, value.is_floating_point()) for key, value in state.items()}),
}


@pytest.mark.parametrize("saving", SAVINGS)
def test_a_state_dict_however_saved_fills_a_factory(saving: str, home: Path) -> None:
    model = net()
    (home / "weights").write_bytes(SAVINGS[saving](model.state_dict()))
    graph = load_model("weights", arch="nets.py:make", input_shape=(3, 8, 8))
    assert (graph.source, graph.arch, graph.free_batch) == ("weights", "nets.py:make", True)
    assert torch.equal(graph.module(X), model["model"](X))


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_a_state_dict_fills_a_zoo_architecture(prefix: str) -> None:
    model = zoo.build("mlp").eval()
    graph = load_model(saved(prefixed(prefix, model.state_dict())), arch="mlp")
    (x,) = graph.example()
    assert torch.equal(graph.module(x), model(x))


def test_published_weights_load() -> None:
    path = SHARED / "cifar10_resnet20_chenyaofo.safetensors"
    if not path.is_file():
        pytest.skip("no shared data")
    graph = load_model(path, arch="resnet20")
    assert sum(parameter.numel() for parameter in graph.module.parameters()) == 272_474
    with pytest.raises(InputError, match=r"does not fit.*missing.*--arch resnet20"):
        load_model(path, arch="resnet32")
    with pytest.raises(UsageError, match="--arch resnet20"):
        load_model(path)


@pytest.mark.parametrize("source", ["nets:make", "nets.py:make", "./nets.py:make"])
def test_factories(source: str, home: Path) -> None:
    graph = load_model(source, input_shape=(3, 8, 8))
    assert (graph.arch, graph.inputs) == (source, (TensorSpec("input", (None, 3, 8, 8)),))


def test_a_zoo_name() -> None:
    assert load_model("mlp").inputs[0].shape == (None, 3, 32, 32)
    assert load_model("mlp").arch == "mlp"


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("resnet8", (1, 8, 8), "--input 1,8,8 does not fit resnet8: expected images of 3 channels, such as --input 3,32,32"),
        ("resnet8", (32,), "--input 32 does not fit resnet8: expected images of 3 channels, such as --input 3,32,32"),
        ("vgg16", (3, 8, 8), "--input 3,8,8 does not fit vgg16: expected another size, such as --input 3,32,32"),
        ("table_mlp", (7,), "--input 7 does not fit table_mlp: expected another size, such as --input 8"),
    ],
)
def test_an_input_that_a_zoo_network_cannot_take(name: str, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_model(name, input_shape=shape)
    assert str(caught.value) == said


def test_the_channels_that_weights_were_trained_for_are_named() -> None:
    gray = saved(zoo.build("resnet8", in_channels=1).state_dict())
    assert load_model(gray, arch="resnet8", input_shape=(1, 9, 9)).inputs[0].shape == (None, 1, 9, 9)
    with pytest.raises(UsageError, match="--input 3,9,9 does not fit resnet8: expected images of 1 channel, such as --input 1,32,32"):
        load_model(gray, arch="resnet8", input_shape=(3, 9, 9))


def test_a_file_wins_over_a_zoo_name(home: Path) -> None:
    (home / "mlp").write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        load_model("mlp")


@pytest.mark.parametrize("container", ["pt", "safetensors"])
def test_a_checkpoint_needs_nothing_else(container: Any, tmp_path: Path) -> None:
    graph = graph_from_module(net()["model"], (TensorSpec("x", (None, 3, 8, 8)),), source="elsewhere")
    path = tmp_path / "file.with.any.name"
    path.write_bytes(save_checkpoint(graph, container))
    again = load_model(path)
    assert again.source == str(path)
    assert torch.equal(again.module(X), graph.module(X))
    with pytest.raises(UsageError, match="--arch"):
        load_model(path, arch="resnet20")
    with pytest.raises(UsageError, match="--input"):
        load_model(path, input_shape=(3, 8, 8))


def trusted(kind: str) -> tuple[bytes, nn.Module]:
    model = net()["model"]
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "pickled":
            return saved(model), model
        if kind == "pickled in a dict":
            return saved({"model": model, "epoch": 1}), model
        if kind == "pt2":
            torch.export.save(torch.export.export(model, (X,)), stream)
        elif kind == "traced":
            torch.jit.save(torch.jit.trace(model, X), stream)
        else:
            torch.jit.save(torch.jit.script(model), stream)
    return stream.getvalue(), model


@pytest.mark.parametrize("kind", ["pickled", "pickled in a dict", "pt2", "traced", "scripted"])
def test_code_is_refused_and_with_trust_is_the_same_model(kind: str) -> None:
    data, model = trusted(kind)
    with pytest.raises(UntrustedError, match="--trust"):
        load_model(data)
    graph = load_model(data, trust=True, input_shape=None if kind == "pt2" else (3, 8, 8))
    assert torch.allclose(graph.module(X), model(X), atol=1e-6)
    assert {name for name, _ in graph.module.named_parameters()} == {name for name, _ in model.named_parameters()}


def test_trust_runs_a_raw_pickle_too() -> None:
    import pickle

    data = pickle.dumps(net()["model"])
    assert load_model(data, trust=True, input_shape=(3, 8, 8)).source == "standard input"


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"source": "nets.py:make"}, UsageError, "--input 3,32,32"),
        ({"source": "weights", "arch": "nets.py:make"}, UsageError, "--input 3,32,32"),
        ({"source": "nets.py:make", "arch": "resnet20"}, UsageError, "--arch"),
        ({"source": "nets.py:missing", "input_shape": (3, 8, 8)}, InputError, "no function 'missing'"),
        ({"source": "gone.py:make", "input_shape": (3, 8, 8)}, InputError, "no file gone.py"),
        ({"source": "gone.mod:make", "input_shape": (3, 8, 8)}, InputError, "No module named 'gone'"),
        ({"source": "nets.py:broken", "input_shape": (3, 8, 8)}, InputError, "no such luck"),
        ({"source": "nets.py:number", "input_shape": (3, 8, 8)}, InputError, "expected an nn.Module"),
        ({"source": "nets.py:make", "input_shape": (1, 8, 8)}, InputError, "torch.export"),
        ({"source": "weights", "arch": "resnet20"}, InputError, "does not fit"),
        ({"source": "weights", "arch": "resnet"}, UsageError, "did you mean 'resnet"),
        ({"source": "weights", "arch": "other.py:make", "input_shape": (3, 8, 8)}, InputError, r"model.0.weight is \[4, 3, 3, 3\], not"),
        ({"source": "weights"}, UsageError, "--arch pkg.mod:factory"),
        ({"source": "list"}, InputError, "no state_dict but a list"),
        ({"source": "numbers"}, InputError, "a dict of epoch, loss"),
        ({"source": "resnet21"}, InputError, "did you mean 'resnet"),
        ({"source": "missing.pt"}, InputError, "no file 'missing.pt'"),
        ({"source": "."}, InputError, "is a directory"),
        ({"source": "/dev/zero"}, InputError, "device"),
        ({"source": "a" * 5000}, InputError, "no file"),
        ({"source": "nul\0"}, InputError, "no file"),
        ({"source": "weights", "max_bytes": 10}, InputError, "--max-bytes"),
        ({"source": "broken seal"}, InputError, "lost its seal"),
        ({"source": "broken seal.safetensors"}, InputError, "seal is damaged"),
    ],
)
def test_refusals(options: dict[str, Any], kind: type[CompresskitError], said: str, home: Path) -> None:
    (home / "weights").write_bytes(saved(net().state_dict()))
    (home / "other.py").write_text(FACTORY.replace("from beside import WIDTH", "WIDTH = 5"))
    (home / "list").write_bytes(saved([torch.zeros(2)]))
    (home / "numbers").write_bytes(saved({"epoch": 3, "loss": 0.5}))
    graph = graph_from_module(nn.Linear(2, 2), (TensorSpec("x", (None, 2)),), source="x")
    (home / "broken seal").write_bytes(saved(torch.load(io.BytesIO(save_checkpoint(graph)), weights_only=True)))
    (home / "broken seal.safetensors").write_bytes(save_checkpoint(graph, "safetensors").replace(b"sha256:", b"sha257:"))
    with pytest.raises(kind, match=said) as caught:
        load_model(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_read_to_its_end_and_no_further_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    data = saved(zoo.build("mlp").state_dict())
    for limit, fits in ((len(data), True), (len(data) - 1, False)):
        writer = threading.Thread(target=_feed, args=(path, data))
        writer.start()
        try:
            if fits:
                assert load_model(path, arch="mlp", max_bytes=limit).arch == "mlp"
            else:
                with pytest.raises(InputError, match="--max-bytes"):
                    load_model(path, arch="mlp", max_bytes=limit)
        finally:
            writer.join()


def _feed(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except BrokenPipeError:
        return
