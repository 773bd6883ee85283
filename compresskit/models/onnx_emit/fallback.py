"""torch's own ONNX exporter, for graphs with operators that the emitter has no words for. Slower by far, and it needs onnxscript."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch

from compresskit.errors import InputError
from compresskit.models.graph import ModelGraph
from compresskit.models.onnx_emit.emitter import OPSET
from compresskit.models.onnx_emit.trace import follows_batch


def export_with_torch(graph: ModelGraph, reason: str) -> onnx.ModelProto:
    """Export through `torch.onnx.export`, without the stack traces and paths that it writes into the model.

    Args:
        reason: what the emitter could not express, for messages.

    Raises:
        InputError: onnxscript is not installed, or torch's exporter fails too.
    """
    if importlib.util.find_spec("onnxscript") is None:
        raise InputError(f"cannot write {reason} as ONNX without torch's exporter: pip install onnxscript")
    open_batch = follows_batch(graph)
    examples = tuple(torch.zeros(spec.sized(2 if open_batch else 1), dtype=spec.dtype) for spec in graph.inputs)
    batch = torch.export.Dim("batch")
    axes = tuple({axis: batch for axis, size in enumerate(spec.shape) if size is None} for spec in graph.inputs)
    try:
        with _silence():
            program = torch.onnx.export(
                graph.module,
                examples,
                dynamo=True,
                opset_version=OPSET,
                input_names=[spec.name for spec in graph.inputs],
                output_names=[spec.name for spec in graph.outputs],
                dynamic_shapes=axes if open_batch else None,
                verbose=False,
            )
    except Exception as error:  # the exporter raises many unrelated kinds
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"cannot write {reason} as ONNX: torch's exporter failed as well: {line}") from error
    assert program is not None
    return strip(program.model_proto)


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` without doc strings, metadata and intermediate shapes: stack traces and local paths live there."""
    clean = onnx.ModelProto()
    clean.CopyFrom(model)
    clean.doc_string = ""
    clean.ClearField("metadata_props")
    for function in clean.functions:
        _strip(function)
        for node in function.node:
            _strip(node)
    _strip_graph(clean.graph)
    return clean


def _strip_graph(graph: onnx.GraphProto) -> None:
    _strip(graph)
    graph.ClearField("value_info")
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        _strip(item)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in (attribute.GRAPH, attribute.GRAPHS) else ():
                _strip_graph(inner)


def _strip(message: onnx.NodeProto | onnx.GraphProto | onnx.FunctionProto | onnx.TensorProto | onnx.ValueInfoProto) -> None:
    message.ClearField("doc_string")
    message.ClearField("metadata_props")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's prints, warnings and log lines to ourselves."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
