"""What data have to fit, and data as a request names them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compresskit.data import interface, read_data
from compresskit.errors import InputError
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.load import load_model
from compresskit.requests import CompressRequest


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    return load_model("resnet8")


@pytest.fixture
def numbers(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    path = tmp_path / "d.npz"
    np.savez(path, x_train=rng.random((40, 3, 32, 32), np.float32), y_train=np.arange(40) % 10)
    return str(path)


def test_data_come_in_the_models_shape_with_the_requests_normalization(graph: ModelGraph, numbers: str) -> None:
    data = read_data(CompressRequest("resnet8", data=numbers, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 2.0)), interface(graph), seed=0)
    assert data.train.x.shape[1:] == (3, 32, 32)
    assert data.classes == 10
    assert (data.normalization.mean, data.normalization.std) == ((0.5, 0.5, 0.5), (1.0, 1.0, 2.0))


def test_models_with_several_inputs_or_outputs_take_no_data(graph: ModelGraph, numbers: str) -> None:
    request = CompressRequest("resnet8", data=numbers)
    with pytest.raises(InputError, match="has 2 outputs"):
        interface(replace(graph, outputs=graph.outputs * 2))
    with pytest.raises(InputError, match="has 2 inputs"):
        read_data(request, replace(interface(graph), inputs=graph.inputs * 2), seed=0)
    with pytest.raises(InputError, match="of fixed sizes"):
        read_data(request, replace(interface(graph), inputs=(TensorSpec("x", (1, 3, None, 32)),)), seed=0)


def test_a_request_protects_what_it_reads(tmp_path: Path) -> None:
    for name in ("m.onnx", "x.npy", "y.npy", "t.json"):
        (tmp_path / name).touch()
    request = CompressRequest(str(tmp_path / "m.onnx"), data=f"{tmp_path / 'x.npy'},{tmp_path / 'y.npy'}")
    assert [path.name for path in request.files_read(str(tmp_path / "t.json"), None)] == ["m.onnx", "x.npy", "y.npy", "t.json"]
    assert CompressRequest(b"piped", data="pkg.mod:make").files_read() == ()
