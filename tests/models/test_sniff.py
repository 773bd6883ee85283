"""Every kind is known by its content alone, and everything else is refused with a word on what it seems to be."""

from __future__ import annotations

import contextlib
import gzip
import io
import pickle
import zipfile
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
from compresskit.models import sniff as sniff_module
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.sniff import EXPECTED, Kind, sniff

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


@pytest.mark.parametrize(("magic", "description"), sniff_module._OTHERS, ids=lambda value: "" if isinstance(value, bytes) else value)
def test_files_that_are_often_where_a_model_should_be(magic: bytes, description: str) -> None:
    with pytest.raises(InputError) as caught:
        sniff(magic + bytes(100))
    assert str(caught.value) == f"this is {description}; {EXPECTED}"


def archived(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"N.")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["a/data.pkl"], Kind.TENSORS),
        (["data.pkl"], Kind.TENSORS),
        (["a/data.pkl", "a/constants.pkl"], Kind.TORCHSCRIPT),
        (["a/code/net.py", "a/data.pkl"], Kind.TORCHSCRIPT),
        (["a/archive_format", "a/data.pkl"], Kind.PT2),
        (["serialized_exported_program.json"], Kind.PT2),
        (["a/models/model.json", "a/data.pkl"], Kind.PT2),
        (["a/x/code/net.py", "a/data.pkl"], Kind.TENSORS),
        (["a.npy", "b.npy"], "an .npz archive of arrays"),
        (["a.npy", "b.txt"], "none that PyTorch writes"),
        (["a/x/data.pkl"], "none that PyTorch writes"),
    ],
)
def test_zip_archives_are_told_apart_by_their_members(names: list[str], kind: Kind | str) -> None:
    if isinstance(kind, Kind):
        assert sniff(archived(*names)) is kind
    else:
        with pytest.raises(InputError, match=kind):
            sniff(archived(*names))


def test_which_kinds_run_code() -> None:
    assert {kind for kind in Kind if kind.runs_code} == {Kind.PICKLED, Kind.RAW_PICKLE, Kind.TORCHSCRIPT, Kind.PT2}


@pytest.mark.parametrize(
    ("data", "known"),
    [
        (b"\x02\0\0\0\0\0\0\0{}", True),
        (b"\xff\xff\xff\xff\0\0\0\0{}", True),
        (b"\0\0\0\0\x01\0\0\0{}", False),
        (b"\0\0\0\0\0\0\0\x01{}", False),
        (b"\x01\0\0\0\0\0\0\0{", False),
        (b"\x02\0\0\0\0\0\0\0[]", False),
    ],
    ids=["small", "the longest header", "too long a header", "far too long a header", "too short a file", "no object"],
)
def test_safetensors_begin_with_the_length_of_an_object(data: bytes, known: bool) -> None:
    if known:
        assert sniff(data) is Kind.SAFETENSORS
    else:
        with pytest.raises(InputError, match="no known kind"):
            sniff(data)


GRAPH = b"\x3a\x02\x12\x00"  # field 7, two bytes


@pytest.mark.parametrize(
    ("data", "known"),
    [
        (GRAPH, True),
        (b"\x08\x07" + GRAPH, True),
        (b"\x08" + b"\xff" * 9 + b"\x01" + GRAPH, True),
        (b"\x08" + b"\x80" * 10 + GRAPH, True),
        (GRAPH[:3], True),
        (b"\x3a\xff\x01" + bytes(100), True),
        (b"\xba\x00\x00", True),
        (b"\x08\x07", False),
        (b"\x38\x02" + GRAPH, False),
        (b"\x0a\x02\x12\x00" + GRAPH, False),
        (b"\x4a\x00" + GRAPH, False),
        (GRAPH + b"\x4a\x00", False),
    ],
    ids=[
        "a graph alone",
        "a version before it",
        "ten bytes of a number",
        "a number without end",
        "cut in the graph",
        "a graph longer than the file",
        "a key in two bytes",
        "no graph",
        "a graph that is a number",
        "a version that is bytes",
        "a field that no model has",
        "such a field behind it",
    ],
)
def test_an_onnx_model_has_the_fields_of_one_and_a_graph(data: bytes, known: bool) -> None:
    if known:
        assert sniff(data) is Kind.ONNX
    else:
        with pytest.raises(InputError, match="no known kind"):
            sniff(data)


@pytest.mark.parametrize("number", range(1, 32))
def test_the_fields_of_a_model_are_those_that_onnx_has(number: int) -> None:
    """Each as a number, then as bytes."""
    field = onnx.ModelProto.DESCRIPTOR.fields_by_number.get(number)
    for wire in (0, 2):
        key = number << 3 | wire
        data = (bytes([key]) if key < 0x80 else bytes([key & 0x7F | 0x80, key >> 7])) + b"\0" + GRAPH
        known = field is not None and wire == (0 if field.cpp_type == field.CPPTYPE_INT64 else 2)
        with contextlib.nullcontext() if known else pytest.raises(InputError):
            assert sniff(data) is Kind.ONNX


@pytest.mark.parametrize(
    ("data", "known"),
    [
        (b"(lp0\n.", True),
        (b"(l0.", True),
        (b"(l.", False),
        (b"\x80\x02]q\x00.", True),
        (b"\x80\x04\x95\x10\0\0\0", True),
        (b"\x80\x05\x95\x10\0\0\0", True),
        (b"\x80\x06\x95\x10\0\0\0", False),
        (b"\x81\x04\x95\x10\0\0\0", False),
        (b"\x80\x04\xff", False),
        (b"N" * 10_000 + b"?", True),
        (b"N" * 9_999 + b"?", False),
    ],
    ids=["text", "four opcodes", "three opcodes", "binary", "cut", "cut, 5", "cut, 6", "cut, no protocol", "no opcode", "long", "not long enough"],
)
def test_a_pickle_is_known_by_its_opcodes(data: bytes, known: bool) -> None:
    if known:
        assert sniff(data) is Kind.RAW_PICKLE
    else:
        with pytest.raises(InputError, match="no known kind"):
            sniff(data)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_left_to_a_reader_that_checks(data: bytes) -> None:
    kinds = []
    with contextlib.suppress(InputError):
        kinds.append(sniff(data))
    assert not kinds or kinds[0] in (Kind.ONNX, Kind.SAFETENSORS, Kind.RAW_PICKLE)
