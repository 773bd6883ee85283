"""Which nodes become integers, which tensors share their steps, and what is left alone and listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compresskit.errors import InputError
from compresskit.quantization.network import Network
from compresskit.quantization.plan import Plan
from compresskit.quantization.static import planned

Build = Callable[..., onnx.ModelProto]


def _plan(model: onnx.ModelProto) -> Plan:
    return planned(Network.of(model), "m.onnx")


def test_a_residual_network_is_integers_from_input_to_head(residual: onnx.ModelProto) -> None:
    plan = _plan(residual)
    assert plan.tensors == ("x", "r0", "r1", "c2", "ra", "p", "r3", "cat", "m", "g", "f")
    assert plan.integer == {"c0", "c1", "c2", "a", "p", "c3", "cat", "m", "g", "f", "y"}
    assert plan.absorbed == {"c0": "r0", "c1": "r1", "a": "ra", "c3": "r3"}
    assert plan.skipped == ()


def test_what_copies_shares_steps(residual: onnx.ModelProto) -> None:
    together = [set(members) for members in _plan(residual).sets if len(members) > 1]
    # The padded shortcut is no ReLU's own output, so the concatenation keeps steps of its own.
    assert together == [{"ra", "p"}, {"cat", "m"}, {"g", "f"}]


def test_concatenated_relus_share_steps(build: Build, weight: Any) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Concat", ["b", "d"], ["e"], axis=1),
        helper.make_node("Conv", ["e", "u"], ["y"]),
    ]
    plan = _plan(build(nodes, {"v": weight(4, 3, 3, 3), "w": weight(4, 3, 3, 3, seed=1), "u": weight(2, 8, 3, 3)}))
    assert set(plan.sets) == {("x",), ("b", "d", "e"), ("y",)}


def test_a_matrix_product_may_end_in_float_and_what_follows_stays_there(build: Build, weight: Any) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Add", ["r", "x"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"]),
    ]
    plan = _plan(build(nodes, {"w": weight(6, 6)}, shape=("N", 6)))
    assert (plan.tensors, plan.integer, plan.absorbed) == (("x",), {"h"}, {})


@pytest.mark.parametrize(
    ("clip", "absorbed"),
    [({"low": 0.0, "high": 6.0}, True), ({"low": -1.0, "high": 1.0}, False)],
)
def test_only_clips_from_zero_are_left_out(build: Build, weight: Any, clip: dict[str, float], absorbed: bool) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Clip", ["c", "low", "high"], ["k"]),
        helper.make_node("Conv", ["k", "v"], ["y"]),
    ]
    stored = {"w": weight(4, 3, 3, 3), "v": weight(2, 4, 3, 3), **{name: np.float32(value) for name, value in clip.items()}}
    assert bool(_plan(build(nodes, stored)).absorbed) == absorbed


def test_what_stays_is_listed_with_its_reason(build: Build, weight: Any) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["inner"])], "b", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)]
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="kept"),
        helper.make_node("If", ["yes"], ["i"], name="branch", then_branch=body, else_branch=body),
        helper.make_node("Gelu", ["i"], ["g"], name="gelu", domain="com.microsoft"),
        helper.make_node("ConvTranspose", ["g", "t"], ["d"], name="up"),
        helper.make_node("MatMul", ["d", "d"], ["y"], name="product"),
    ]
    stored = {"w": weight(4, 3, 3, 3), "t": weight(4, 4, 1, 1), "yes": np.array(True)}
    plan = _plan(build(nodes, stored, domains=["com.microsoft"]))
    assert [layer.name for layer in plan.layers] == ["kept"]
    assert [(skip.group, skip.reason.split(" ")[0]) for skip in plan.skipped] == [
        ("branch", "If"),
        ("gelu", "com.microsoft.Gelu"),
        ("up", "ConvTranspose"),
        ("product", "this"),
    ]


def test_nothing_to_quantize_is_refused(build: Build) -> None:
    with pytest.raises(InputError, match=r"m\.onnx: there is nothing to quantize: no Conv, Gemm or MatMul .+ \(its operators: Relu\)"):
        _plan(build([helper.make_node("Relu", ["x"], ["y"])], {}))
