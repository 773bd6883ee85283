"""Models from strangers, quantized: attacks are refused as everywhere, and whatever passes onnx's checker ends in a model or in a line of ours."""

from __future__ import annotations

import importlib.util
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compresskit.errors import CompresskitError, InputError
from compresskit.models.onnx_safety import read_onnx
from compresskit.quantization.config import QuantizeConfig, QuantizeRequest
from compresskit.quantization.emit import emit_static
from compresskit.quantization.grid import asymmetric
from compresskit.quantization.pipeline import run
from compresskit.quantization.prepare import prepare
from compresskit.quantization.static import planned
from compresskit.quantization.weights import weight_grids
from compresskit.quantization.weights_only import quantize_weights


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hostile_make_onnx", Path(__file__).parent / "make_onnx.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = _maker()
Change = Callable[[onnx.ModelProto, random.Random], None]


@pytest.mark.parametrize("name", MAKER.ATTACKS)
def test_attacks_are_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(MAKER.ATTACKS[name][0](folder))
    with pytest.raises(InputError, match=r"^\S+m\.onnx: [^\n]+$"):
        run(QuantizeRequest(str(folder / "m.onnx"), outputs=(str(tmp_path / "out.onnx"),)))
    assert not (tmp_path / "out.onnx").exists()


def _network() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 3, 3, 3), "b": (4,), "v": (4, 4, 1, 1), "s": (4,), "o": (4,), "m": (4,), "u": (4, 2), "a": (2,)}
    stored = [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name) for name, shape in shapes.items()]
    stored += [numpy_helper.from_array(np.ones(4, np.float32), "var"), numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), "pads")]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "s", "o", "m", "var"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["d"]),
        helper.make_node("Add", ["d", "r"], ["e"]),
        helper.make_node("Pad", ["e", "pads"], ["p"]),
        helper.make_node("Concat", ["p", "p"], ["k"], axis=2),
        helper.make_node("ReduceMean", ["k", "axes"], ["g"], keepdims=0),
        helper.make_node("MatMul", ["g", "u"], ["t"]),
        helper.make_node("Add", ["t", "a"], ["y"]),
    ]
    stored.append(numpy_helper.from_array(np.array([2, 3], np.int64), "axes"))
    ends = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", ("N", 3, 6, 6)), ("y", ("N", 2))))
    graph = helper.make_graph(nodes, "g", [next(ends)], [next(ends)], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("my", 1)], ir_version=8)


def _rename_input(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice([node for node in model.graph.node if node.input])
    names = [name for other in model.graph.node for name in (*other.input, *other.output)]
    node.input[rng.randrange(len(node.input))] = rng.choice([*names, ""])


def _drop_input(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice([node for node in model.graph.node if node.input])
    del node.input[rng.randrange(len(node.input))]


def _rename_operator(model: onnx.ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.node).op_type = rng.choice(
        ["Conv", "Gemm", "MatMul", "Clip", "Relu", "Pad", "Concat", "Resize", "Split", "Dropout", "Identity"]
    )


def _move_domain(model: onnx.ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.node).domain = "my"


def _reshape_weight(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    array = numpy_helper.to_array(tensor)
    shape = rng.choice([(array.size,), (1, array.size), (0,), (), (array.size, 1, 1)])
    tensor.CopyFrom(numpy_helper.from_array(np.resize(array, shape), tensor.name))


def _spoil_weight(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice([tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT])
    array = numpy_helper.to_array(tensor) * np.float32(rng.choice([0, 1e-40, 1e38, -1, np.nan, np.inf]))
    tensor.CopyFrom(numpy_helper.from_array(array.astype(rng.choice([np.float32, np.float64, np.int32])), tensor.name))


def _spoil_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    name = rng.choice(["group", "axis", "axes", "transB", "alpha", "mode", "pads", "epsilon", "keepdims", "value"])
    value = rng.choice([0, -1, 7, 2.5, float("nan"), "reflect", [1, 2], [-9], []])
    del node.attribute[:]
    node.attribute.append(helper.make_attribute(name, value, attr_type=onnx.AttributeProto.INTS if value == [] else None))


CHANGES: tuple[Change, ...] = (_rename_input, _drop_input, _rename_operator, _move_domain, _reshape_weight, _spoil_weight, _spoil_attribute)


def _mutant(seed: int) -> onnx.ModelProto:
    rng, model = random.Random(seed), _network()
    for _ in range(rng.randint(1, 3)):
        rng.choice(CHANGES)(model, rng)
    return model


def _quantized(data: bytes) -> list[onnx.ModelProto]:
    """Both ways of quantizing, the ranges made up."""
    model = read_onnx(data)
    network = prepare(model, "m.onnx")
    plan = planned(network, "m.onnx")
    grids = dict.fromkeys(plan.tensors, asymmetric(-1, 3, 8))
    return [quantize_weights(network, 4, "m.onnx").model, emit_static(network, plan, weight_grids(network, plan.layers, 8, grids), grids)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_mutants_end_in_a_checked_model_or_in_one_line() -> None:
    ends: Counter[str] = Counter()
    for seed in range(500):
        try:
            for model in _quantized(_mutant(seed).SerializeToString()):
                onnx.checker.check_model(model)
            ends["model"] += 1
        except CompresskitError as error:
            ends["line" if "\n" not in str(error) else f"{seed}: {error}"] += 1
    assert set(ends) == {"model", "line"}
    assert min(ends.values()) > 50


@pytest.mark.parametrize("seed", range(6))
def test_mutants_from_file_to_file(seed: int, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(_mutant(seed).SerializeToString())
    target = tmp_path / "out.onnx"
    try:
        run(QuantizeRequest(str(tmp_path / "m.onnx"), QuantizeConfig(seed=0), outputs=(str(target),)))
    except CompresskitError:
        assert not target.exists()
    else:
        onnx.checker.check_model(target.read_bytes())
