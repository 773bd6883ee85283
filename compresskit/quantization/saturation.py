"""Does this CPU multiply 8-bit integers exactly? ONNX Runtime is asked to, and its answer checked.

x86 before VNNI adds pairs of products of uint8 and int8 in 16 bits, where 2 x 255 x 127 does not fit: sums of large products come out too
small, silently. Weights of 7 bits fit. (ONNX Runtime's name for them is `reduce_range`.)
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from compresskit.models.sessions import run

_DEPTH = 64


def saturates() -> bool:
    """Whether the largest products of 8-bit integers add up wrongly here, in a convolution or in a matrix product."""
    rng = np.random.default_rng(0)
    signs = rng.choice([-127, 127], (16, _DEPTH)).astype(np.int8)
    signs[0] = 127
    x = np.full((4, _DEPTH), 255, np.uint8)
    want = x.astype(np.int64) @ signs.T.astype(np.int64)
    image, kernel = x[:, :, None, None], signs[:, :, None, None]
    got = (_products("MatMulInteger", x, np.ascontiguousarray(signs.T)), _products("ConvInteger", image, kernel).reshape(want.shape))
    return not all(np.array_equal(one, want) for one in got)


def _products(operator: str, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The int32 sums that ONNX Runtime makes of uint8 inputs and stored int8 weights."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT32, None)]
    graph = helper.make_graph([helper.make_node(operator, ["x", "w"], ["y"])], "products", inputs, outputs, [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    return run(model.SerializeToString(), {"x": x})[0]
