"""ModelGraph to ONNX.

    fx node ──handler (onnx_emit)──► ONNX nodes        conv + batch norm ──► one Conv
       └─ no handler ──► torch.onnx.export, metadata stripped

Nodes keep the names that they have in the graph, initializers those of the state_dict. The same graph gives the same bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import onnx
import torch
from onnx import helper
from torch import nn

from compresskit.errors import InputError
from compresskit.models.graph import ModelGraph
from compresskit.models.onnx_emit import BATCH, OPSET, Dim, Emitted, UnsupportedError, emit, export_with_torch, follows_batch, onnx_dtype
from compresskit.wording import first_line

_IR_VERSION = 9  # the one that came with opset 20


def export_onnx(graph: ModelGraph, *, fold_batchnorm: bool = True) -> onnx.ModelProto:
    """The graph as a checked ONNX model (opset 20), in evaluation mode.

    Inputs and outputs are named as in `graph`. A size that `graph.inputs` leaves open is the symbolic "batch"; a batch that they fix
    is fixed in the model too, also where the graph itself runs at any; where the graph has a batch of 1 baked in, so has the model.

    Args:
        fold_batchnorm: fold a batch norm into the convolution or linear layer before it, where that has no other reader.

    Raises:
        InputError: an operator cannot be expressed, or the result does not pass onnx.checker.
    """
    with _evaluating(graph.module), torch.no_grad():
        try:
            model = _model(graph, emit(graph, fold_batchnorm=fold_batchnorm))
        except UnsupportedError as gap:
            model = export_with_torch(graph, str(gap))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise InputError(f"the exported model does not pass onnx.checker: {first_line(error)}") from error
    return model


def _model(graph: ModelGraph, emitted: Emitted) -> onnx.ModelProto:
    batch = BATCH if follows_batch(graph) else 1
    inputs = [_value_info(spec.name, spec.dtype, [batch if size is None else size for size in spec.shape]) for spec in graph.inputs]
    outputs = [
        _value_info(spec.name, dtype, shape) for spec, shape, dtype in zip(graph.outputs, emitted.output_shapes, emitted.output_dtypes, strict=True)
    ]
    body = helper.make_graph(emitted.nodes, "compresskit", inputs, outputs, emitted.initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(body, ir_version=_IR_VERSION, opset_imports=opsets, producer_name="compresskit")


def _value_info(name: str, dtype: torch.dtype, shape: Sequence[Dim]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx_dtype(dtype), shape)


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """`module` in evaluation mode for a while."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
