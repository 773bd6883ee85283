"""ONNX stays in its folder, and what is read is what the file says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compresskit.errors import InputError
from compresskit.models import onnx_safety
from compresskit.models.graph import ELEMENTS
from compresskit.models.onnx_safety import read_onnx


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hostile_make_onnx", Path(__file__).parents[1] / "hostile" / "make_onnx.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = _maker()
WEIGHTS = np.linspace(-1, 1, 4, dtype=np.float32)


@pytest.mark.parametrize("name", MAKER.ATTACKS)
def test_attacks_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    attack, said = MAKER.ATTACKS[name]
    data = attack(folder)
    for where in (folder, None):
        with pytest.raises(InputError) as caught:
            read_onnx(data, folder=where)
        assert said in str(caught.value) or (where is None and "a model on the standard input has no folder" in str(caught.value))
        assert "\n" not in str(caught.value)


def test_short_chains_and_shallow_graphs_are_not_attacks() -> None:
    assert len(read_onnx(MAKER.chain(32)).functions) == 32
    assert len(read_onnx(MAKER.nested(30)).graph.node) == 2


def test_the_limit_on_nodes_counts_those_in_functions_and_subgraphs(monkeypatch: pytest.MonkeyPatch) -> None:
    chain, nested = MAKER.chain(3), MAKER.nested(1)
    for data, nodes in ((chain, 4), (nested, 6)):
        monkeypatch.setattr(onnx_safety, "_MAX_NODES", nodes)
        read_onnx(data)
        monkeypatch.setattr(onnx_safety, "_MAX_NODES", nodes - 1)
        with pytest.raises(InputError, match=f"more than {nodes - 1} nodes"):
            read_onnx(data)


def test_the_limit_on_elements_is_the_last_size_that_passes() -> None:
    proto = MAKER.model()
    size = proto.graph.input[0].type.tensor_type.shape.dim[1]
    size.dim_value = ELEMENTS
    read_onnx(proto.SerializeToString())
    size.dim_value += 1
    with pytest.raises(InputError, match="'x' would have the shape"):
        read_onnx(proto.SerializeToString())


BITS = {
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64", "COMPLEX64"), 64),
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 32),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 16),
    **dict.fromkeys(("INT8", "UINT8", "BOOL", "FLOAT8E5M2", "FLOAT8E4M3FN"), 8),
    **dict.fromkeys(("INT4", "UINT4"), 4),
    **dict.fromkeys(("INT2", "UINT2"), 2),
    "COMPLEX128": 128,
}


@pytest.mark.parametrize("kind", BITS)
def test_the_bytes_of_a_weight_follow_from_its_type(kind: str) -> None:
    """Nine entries, packed: 5 bytes where each takes 4 bits."""
    proto, size = MAKER.model(), -(-9 * BITS[kind] // 8)
    weight = proto.graph.initializer.add(name="k", data_type=getattr(onnx.TensorProto, kind), dims=(9,), raw_data=bytes(size))
    assert read_onnx(proto.SerializeToString()).graph.initializer[1].raw_data == bytes(size)
    for wrong in (size - 1, size + 1):
        weight.raw_data = bytes(wrong)
        with pytest.raises(InputError, match=f"'k' of shape .9. should hold {size} bytes, it holds {wrong}"):
            read_onnx(proto.SerializeToString())


@pytest.mark.parametrize("raw", [True, False])
def test_a_shape_is_read_whichever_way_it_is_stored(raw: bool) -> None:
    """As long as any that a runtime takes."""

    def expanded_by(*last: int) -> bytes:
        sizes = [1] * 126 + list(last)
        stored = np.array(sizes).tobytes() if raw else sizes
        data: bytes = MAKER.expanded_by(onnx.helper.make_tensor("s", onnx.TensorProto.INT64, [128], stored, raw=raw))
        return data

    read_onnx(expanded_by(1 << 16, 1 << 15))
    with pytest.raises(InputError, match="'blow' would have the shape"):
        read_onnx(expanded_by(1 << 16, 1 << 16))


def test_large_numbers_that_are_no_sizes_are_not_attacks() -> None:
    """In an attribute, in a constant of another type (which the operator itself refuses), for another input."""
    numbers = onnx.helper.make_node("Constant", [], ["k"], value_ints=[1 << 20, 1 << 20])
    cast = onnx.helper.make_node("Cast", ["k"], ["f"], to=onnx.TensorProto.FLOAT)
    total = onnx.helper.make_node("ReduceSum", ["f"], ["t"], keepdims=1)
    nodes = [numbers, cast, total, onnx.helper.make_node("Add", ["x", "t"], ["y"])]
    assert len(read_onnx(MAKER.model(nodes=nodes).SerializeToString()).graph.node) == 4
    huge = numpy_helper.from_array(np.array([1 << 20, 1 << 20], np.int32), "s")
    read_onnx(MAKER.expanded_by(huge))


@pytest.mark.parametrize("offset", [0, 12])
def test_external_data_beside_the_model_are_brought_in(offset: int, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(offset) + WEIGHTS.tobytes() + b"tail")
    tensor = MAKER.external("w.bin", **({"offset": offset, "length": 16} if offset else {}))
    (weight,) = read_onnx(MAKER.model(tensor).SerializeToString(), folder=tmp_path).graph.initializer
    assert np.array_equal(numpy_helper.to_array(weight), WEIGHTS)
    assert weight.data_location == onnx.TensorProto.DEFAULT


def test_a_model_as_onnx_itself_saves_it_with_external_data(tmp_path: Path) -> None:
    proto = MAKER.model(numpy_helper.from_array(WEIGHTS, "w"))
    path = tmp_path / "m.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location="m.data", size_threshold=0)
    (weight,) = read_onnx(path.read_bytes(), folder=tmp_path).graph.initializer
    assert np.array_equal(numpy_helper.to_array(weight), WEIGHTS)


def test_external_data_count_towards_the_limit(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    data = MAKER.model(MAKER.external("w.bin")).SerializeToString()
    assert read_onnx(data, folder=tmp_path, max_bytes=len(data) + 16).graph.initializer[0].raw_data == WEIGHTS.tobytes()
    with pytest.raises(InputError, match="--max-bytes"):
        read_onnx(data, folder=tmp_path, max_bytes=len(data) + 15)


@pytest.mark.parametrize("array", [np.array([1, -2], np.int64), np.array([True, False]), np.array([1.5], np.float16), np.zeros((0, 3), np.float32)])
@pytest.mark.parametrize("raw", [True, False])
def test_weights_of_every_layout_pass(array: np.ndarray, raw: bool) -> None:
    tensor = numpy_helper.from_array(array, "k")
    if not raw:
        values = array.view(np.uint16) if array.dtype == np.float16 else array
        tensor = onnx.helper.make_tensor("k", tensor.data_type, array.shape, values.flatten().tolist() if array.dtype != np.float16 else [1.5])
    proto = MAKER.model()
    proto.graph.initializer.append(tensor)
    kept = read_onnx(proto.SerializeToString()).graph.initializer[1]
    assert np.array_equal(numpy_helper.to_array(kept), array)


@pytest.mark.parametrize("data", [b"", b"\x08\x08", onnx.ModelProto().SerializeToString(), b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="damaged or truncated"):
        read_onnx(data)


def test_the_checker_has_a_say() -> None:
    proto = MAKER.model()
    proto.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(InputError, match="checker refuses"):
        read_onnx(proto.SerializeToString())
