"""Every kind is known by its content alone, and everything else is refused with a word on what it seems to be."""

from __future__ import annotations

import contextlib
import gzip
import io
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from safetensors.torch import save as save_safetensors
from torch import nn

from compresskit.errors import InputError
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.sniff import Kind, sniff

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(3)}
SHARED = Path(__file__).parents[2] / "../shared/data/onnx"


def saved(value: object, *, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def tiny_onnx() -> bytes:
    shape = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    return helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", shape[:1], shape[1:])).SerializeToString()


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros(3))
    return stream.getvalue()


def in_words(value: bytes | Kind | str) -> str:
    """A test's name holds no bytes: they can differ from one process to the next (gzip writes the time), and workers must agree on names."""
    return "bytes" if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (saved(STATE), Kind.TENSORS),
        (saved(STATE, legacy=True), Kind.TENSORS),
        (saved({"state_dict": STATE, "epoch": 3, "names": ["a", None]}), Kind.TENSORS),
        (saved(nn.BatchNorm2d(3).state_dict()), Kind.TENSORS),
        (saved(nn.Linear(2, 2)), Kind.PICKLED),
        (saved(nn.Linear(2, 2), legacy=True), Kind.PICKLED),
        (pickle.dumps({"weights": np.zeros(3)}), Kind.RAW_PICKLE),
        (save_safetensors(STATE), Kind.SAFETENSORS),
        (tiny_onnx(), Kind.ONNX),
    ],
    ids=in_words,
)
def test_kinds(data: bytes, kind: Kind) -> None:
    assert sniff(data) is kind


def test_checkpoints() -> None:
    graph = graph_from_module(nn.Linear(2, 2), (TensorSpec("x", (None, 2)),), source="test")
    assert {sniff(save_checkpoint(graph, container)) for container in ("pt", "safetensors")} == {Kind.CHECKPOINT}


def test_onnx_files_from_everywhere() -> None:
    paths = sorted(SHARED.glob("*.onnx"))
    if not paths:
        pytest.skip("no shared data")
    assert {path.name: sniff(path.read_bytes()) for path in paths} == {path.name: Kind.ONNX for path in paths}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (gzip.compress(tiny_onnx()), "gzip"),
        (npz(), "--data"),
        (b"\x93NUMPY\x01\x00", "--data"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x05\x06" + bytes(18), "empty zip"),
        (saved(STATE)[:200], "truncated"),
        (b"import torch\n", "no known kind"),
        (bytes(1000), "no known kind"),
    ],
    ids=in_words,
)
def test_what_is_no_model_is_named(data: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        sniff(data)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_left_to_a_reader_that_checks(data: bytes) -> None:
    kinds = []
    with contextlib.suppress(InputError):
        kinds.append(sniff(data))
    assert not kinds or kinds[0] in (Kind.ONNX, Kind.SAFETENSORS, Kind.RAW_PICKLE)
