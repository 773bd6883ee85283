"""The emitted model: valid, fused by ONNX Runtime, and right to the integer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compresskit.errors import GuardError
from compresskit.models.sessions import run
from compresskit.quantization import integrity
from compresskit.quantization.emit import emit_weights
from compresskit.quantization.integrity import check_integers
from compresskit.quantization.network import Network
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.ranges import METHODS
from compresskit.quantization.weights_only import quantize_weights

Build = Callable[..., onnx.ModelProto]
Static = Callable[..., Quantized]
Fused = Callable[[onnx.ModelProto], Counter[str]]


def _stored(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def _outputs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return run(model.SerializeToString(), {"x": x})[0]


def test_onnx_runtime_runs_it_in_integers_from_end_to_end(residual: onnx.ModelProto, static: Static, fused: Fused) -> None:
    operators = fused(static(residual).model)
    assert operators["QLinearConv"] == 4
    assert [operators[name] for name in ("QLinearAdd", "QLinearConcat", "QLinearGlobalAveragePool", "QGemm")] == [1, 1, 1, 1]
    assert operators["QuantizeLinear"] == 1  # the input
    assert not {"Conv", "Relu", "Add", "Gemm", "Concat", "DequantizeLinear"} & set(operators)


@pytest.mark.parametrize("method", METHODS)
def test_its_integers_are_the_reference_s(residual: onnx.ModelProto, static: Static, samples: np.ndarray, method: str) -> None:
    done = static(residual, method=method)
    checked = check_integers(done.model, {"x": samples[:8]})
    assert checked.nodes == 7  # all but the last, which ends in float
    assert (checked.worst <= 1, checked.equal >= 0.999) == (True, True)


def test_its_outputs_are_near_the_float_model_s(residual: onnx.ModelProto, static: Static, samples: np.ndarray) -> None:
    want = _outputs(residual, samples)
    error = {bits: np.abs(_outputs(static(residual, weights=bits, activations=bits).model, samples) - want).mean() for bits in (4, 8, 16)}
    assert error[8] < 0.02 * want.std() < error[4]
    assert error[16] < error[8] / 20


@pytest.mark.parametrize(("weights", "activations"), [(2, 8), (4, 8), (5, 8), (8, 4), (16, 16), (3, 12), (8, 2)])
def test_every_width_runs_as_the_reference_says(
    residual: onnx.ModelProto, static: Static, samples: np.ndarray, weights: int, activations: int
) -> None:
    model = static(residual, weights=weights, activations=activations).model
    checked = check_integers(model, {"x": samples[:8]})
    assert checked.nodes >= 3
    if activations < 8:
        network = Network.of(model)
        names = [node.output[0] for node in network.nodes if node.op_type == "QuantizeLinear"]
        values = integrity._run(model, {name: np.dtype(np.uint8) for name in names}, {"x": samples[:8]}, 1, None)
        assert max(int(value.max()) for value in values.values()) <= 2**activations - 1


def test_small_weights_are_packed(residual: onnx.ModelProto, static: Static) -> None:
    sizes = {bits: len(_stored(static(residual, weights=bits).model)["w1_quantized"].raw_data) for bits in (2, 4, 8, 16)}
    assert sizes == {2: 8 * 8 * 9 // 4, 4: 8 * 8 * 9 // 2, 8: 8 * 8 * 9, 16: 8 * 8 * 9 * 2}


@pytest.mark.parametrize("alone", [False, True])
def test_every_layer_may_have_bits_of_its_own(residual: onnx.ModelProto, static: Static, samples: np.ndarray, alone: bool) -> None:
    widths = {"w0": 8, "w1": 4, "w2": 2, "w3": 3, "w4": 16}
    done = quantize_weights(Network.of(residual), widths, "m.onnx") if alone else static(residual, weights=widths)
    assert {name: grid.bits for name, grid in done.weights.items()} == widths
    kinds = {name: TensorProto.DataType.Name(_stored(done.model)[f"{name}_quantized"].data_type) for name in widths}
    assert kinds == {"w0": "INT8", "w1": "INT4", "w2": "INT2", "w3": "INT4", "w4": "INT16"}
    if not alone:
        assert check_integers(done.model, {"x": samples[:8]}).worst <= 1
    assert np.isfinite(_outputs(done.model, samples)).all()


def test_weights_are_by_channel_and_biases_have_the_products_steps(residual: onnx.ModelProto, static: Static) -> None:
    stored = {name: numpy_helper.to_array(tensor) for name, tensor in _stored(static(residual).model).items()}
    assert stored["w1_scale"].shape == (8,)
    assert stored["c1_bias_quantized"].dtype == np.int32
    np.testing.assert_allclose(stored["c1_bias_scale"], stored["r0_scale"] * stored["w1_scale"], rtol=1e-6)
    assert stored["r0_zero_point"] == 0  # what clips like a ReLU


def test_a_bias_far_beyond_its_weights_still_fits(build: Build, weight: Any, static: Static, samples: np.ndarray) -> None:
    w = weight(4, 3, 3, 3)
    w[1] *= 1e-12
    w[2] = 0
    bias = np.array([0.1, 40, -30, 0], np.float32)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"]), helper.make_node("Flatten", ["c"], ["y"])]
    model = build(nodes, {"w": w, "b": bias})
    done = static(model)
    assert check_integers(done.model, {"x": samples[:4]}).worst <= 1
    want, got = _outputs(model, samples), _outputs(done.model, samples)
    assert np.abs(want - got).max() < 1.1 * float(done.activations["c"].scale)


def test_a_concatenation_of_relus_and_others_keeps_its_signs(build: Build, weight: Any, static: Static, samples: np.ndarray) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("MaxPool", ["b"], ["m"], kernel_shape=[1, 1]),
        helper.make_node("Concat", ["m", "c"], ["e"], axis=1),
        helper.make_node("Conv", ["e", "u"], ["y"]),
    ]
    model = build(nodes, {"v": weight(4, 3, 3, 3), "w": weight(4, 3, 3, 3, seed=1), "u": weight(2, 8, 3, 3)})
    want, got = _outputs(model, samples), _outputs(static(model).model, samples)
    assert np.abs(want - got).mean() < 0.04 * want.std()


def test_names_of_inputs_and_outputs_stay(residual: onnx.ModelProto, static: Static) -> None:
    for model in (static(residual).model, emit_weights(Network.of(residual), quantize_weights(Network.of(residual), 8, "m").weights)):
        assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["x", "y"]


def test_a_tensor_that_is_an_output_too_is_still_put_out(build: Build, weight: Any, static: Static, samples: np.ndarray) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["r"]), helper.make_node("Conv", ["r", "v"], ["y"])]
    model = build(nodes, {"w": weight(4, 3, 3, 3), "v": weight(2, 4, 3, 3)}, outputs=("r", "y", "c"))
    for want, got in zip(*(run(one.SerializeToString(), {"x": samples}) for one in (model, static(model).model)), strict=True):
        assert np.abs(want - got).mean() < 0.04 * want.std()


def test_shared_weights_are_stored_once(build: Build, weight: Any, static: Static, samples: np.ndarray) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "w", "b"], ["y"], pads=[1, 1, 1, 1]),
    ]
    model = build(nodes, {"w": weight(3, 3, 3, 3), "b": np.array([0.1, -0.2, 0.3], np.float32)})
    done = static(model).model
    assert sum(tensor.name.endswith("_quantized") and tensor.data_type == TensorProto.INT8 for tensor in done.graph.initializer) == 1
    want, got = _outputs(model, samples), _outputs(done, samples)
    assert np.abs(want - got).mean() < 0.04 * want.std()


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
def test_weights_alone(residual: onnx.ModelProto, samples: np.ndarray, bits: int) -> None:
    done = quantize_weights(Network.of(residual), bits, "m.onnx")
    replaced = Network.of(residual)
    rounded = replaced.edited(replaced.nodes, {name: grid.round_trip(replaced.constants[name]) for name, grid in done.weights.items()})
    np.testing.assert_allclose(_outputs(done.model, samples), _outputs(rounded.to_model(), samples), rtol=1e-4, atol=1e-5)


@settings(max_examples=12)
@given(st.data())
def test_random_convolutions_are_right_to_the_integer(build: Build, weight: Any, static: Static, data: st.DataObject) -> None:
    draw = data.draw
    group = draw(st.sampled_from([1, 2, 4]))
    kernel, stride, dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2)))
    pads = draw(st.lists(st.integers(0, 2), min_size=4, max_size=4))
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], group=group, strides=[stride] * 2, dilations=[dilation] * 2, pads=pads),
        helper.make_node(draw(st.sampled_from(["Relu", "LeakyRelu", "Sigmoid"])), ["c"], ["r"]),
        helper.make_node("Mul", ["r", "r"], ["q"]),
        helper.make_node("Conv", ["q", "v"], ["y"]),
    ]
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    stored = {"w": weight(8, 4 // group, kernel, kernel), "b": rng.standard_normal(8).astype(np.float32), "v": weight(2, 8, 1, 1)}
    x = rng.standard_normal((8, 4, 9, 7)).astype(np.float32)
    done = static(build(nodes, stored, shape=("N", 4, 9, 7)), x=x)
    checked = check_integers(done.model, {"x": x})
    assert checked.nodes >= 3
    assert checked.worst <= 1


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_pads_are_right_to_the_integer(build: Build, weight: Any, static: Static, samples: np.ndarray, mode: str) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=mode, strides=[2, 3], kernel_shape=[4, 3])
    checked = check_integers(static(build([node], {"w": weight(4, 3, 4, 3)})).model, {"x": samples[:4]})
    assert (checked.nodes, checked.worst <= 1) == (1, True)


def test_integers_that_are_wrong_are_found(residual: onnx.ModelProto, static: Static, samples: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    model, truth = static(residual).model, integrity._run
    average = "ONNX Runtime's GlobalAveragePool 'average' is off by 2 steps"
    for wrong, message in ((2, average), (1, "only 99.*% of ONNX Runtime's integers are what the model says")):

        def lie(*arguments: Any, by: int = wrong) -> dict[str, np.ndarray]:
            values = truth(*arguments)
            values["g_quantized"] = values["g_quantized"] + by
            return values

        monkeypatch.setattr(integrity, "_run", lie)
        with pytest.raises(GuardError, match=message):
            check_integers(model, {"x": samples[:8]})
