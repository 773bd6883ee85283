"""Quantized networks as ONNX: QuantizeLinear and DequantizeLinear around what runs in integers (QDQ).

    x ──► Q ──► DQ ──► Conv ──► Q ──► DQ ──► y          ONNX Runtime makes QLinearConv of it
         w (int8) ─► DQ ─┘ └─ DQ ◄─ b (int32)

A tensor keeps its name: what its old maker makes is called `<name>_float`, and the dequantized one takes its place. Where the maker stays in
float (or is an input of the graph), float readers keep reading the float, and integer readers get `<name>_dequantized`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from compresskit.errors import InputError
from compresskit.quantization.codebook import Codebook
from compresskit.quantization.grid import Grid
from compresskit.quantization.layers import Layer, find_layers
from compresskit.quantization.network import Network
from compresskit.quantization.plan import Plan
from compresskit.quantization.storage import Container, activation_container, index_container, tensor, weight_container
from compresskit.quantization.weights import quantized_bias
from compresskit.wording import first_line


def emit_static(network: Network, plan: Plan, weights: Mapping[str, Grid], activations: Mapping[str, Grid]) -> onnx.ModelProto:
    """The network with weights and activations quantized.

    Args:
        weights: grids by the weights' names.
        activations: grids by the tensors' names; those of one set are the same.

    Raises:
        InputError: the result does not pass onnx.checker.
    """
    return _Static(network, plan, weights, activations).build()


def emit_weights(network: Network, weights: Mapping[str, Grid]) -> onnx.ModelProto:
    """The network with the stored weights that have grids quantized, everything computed in float.

    Raises:
        InputError: as `emit_static`.
    """
    emitter = _Emitter(network, weights)
    layers = {layer.output: layer for layer in find_layers(network)}
    for node in network.nodes:
        layer = layers.get(node.output[0])
        emitter.nodes.append(_with_inputs(node, {layer.weight: emitter.weight(layer)}) if layer is not None and layer.weight in weights else node)
    return emitter.finish()


def emit_codebooks(network: Network, codebooks: Mapping[str, Codebook]) -> onnx.ModelProto:
    """The network with the stored weights that have codebooks as indices into them, everything computed in float.

    Raises:
        InputError: as `emit_static`.
    """
    emitter = _Emitter(network, {})
    layers = {layer.output: layer for layer in find_layers(network)}
    for node in network.nodes:
        layer = layers.get(node.output[0])
        book = None if layer is None else codebooks.get(layer.weight)
        emitter.nodes.append(node if layer is None or book is None else _with_inputs(node, {layer.weight: emitter.looked_up(layer.weight, book)}))
    return emitter.finish()


class _Emitter:
    """Collects nodes and stored tensors."""

    def __init__(self, network: Network, weights: Mapping[str, Grid]) -> None:
        self.network = network
        self.grids = weights
        self.nodes: list[NodeProto] = []
        self.stored: dict[str, TensorProto] = {}
        self.opset = network.opset

    def store(self, name: str, values: np.ndarray, container: Container) -> str:
        self.opset = max(self.opset, container.opset)
        self.stored.setdefault(name, tensor(name, values, container.kind, container.bits))
        return name

    def store_scale(self, name: str, scale: np.ndarray) -> str:
        self.stored.setdefault(name, onnx.numpy_helper.from_array(np.asarray(scale, np.float32), name))
        return name

    def dequantize(self, integers: str, scale: str, zero: str, result: str, axis: int | None = None) -> str:
        axes: dict[str, Any] = {} if axis is None else {"axis": axis}
        self.nodes.append(helper.make_node("DequantizeLinear", [integers, scale, zero], [result], name=f"{result}_DequantizeLinear", **axes))
        return result

    def weight(self, layer: Layer) -> str:
        """Store and dequantize a layer's weights; layers that share them share that too."""
        name, result = layer.weight, f"{layer.weight}_dequantized"
        if f"{name}_quantized" in self.stored:
            return result
        grid = self.grids[name]
        container = weight_container(grid.bits)
        values = grid.quantize(self.network.constants[name])
        zero = self.store(f"{name}_zero_point", np.zeros(grid.scale.shape, np.int32), container)
        scale = self.store_scale(f"{name}_scale", grid.scale)
        if container.kind != TensorProto.INT2:
            return self.dequantize(self.store(f"{name}_quantized", values, container), scale, zero, result, layer.axis)
        # ONNX Runtime 1.31 fuses 2-bit weights into kernels that then refuse them, unless a reshape lies between.
        integers = self.store(f"{name}_quantized", values.reshape(len(values), -1), container)
        self.stored[f"{name}_shape"] = onnx.numpy_helper.from_array(np.array(values.shape, np.int64), f"{name}_shape")
        flat = self.dequantize(integers, scale, zero, f"{name}_flat", layer.axis)
        self.nodes.append(helper.make_node("Reshape", [flat, f"{name}_shape"], [result], name=f"{result}_Reshape"))
        return result

    def looked_up(self, name: str, codebook: Codebook) -> str:
        """Store weights as indices, and look them up; layers that share them share that too."""
        result = f"{name}_dequantized"
        if f"{name}_indices" not in self.stored:
            values = self.network.constants[name]
            indices = self.store(f"{name}_indices", codebook.quantize(values), index_container(codebook.bits))
            centers, scale = self.store_scale(f"{name}_centers", codebook.centers), self.store_scale(f"{name}_scale", codebook.spread(values.ndim))
            self.nodes += [
                helper.make_node("Cast", [indices], [f"{name}_wide"], name=f"{name}_Cast", to=TensorProto.INT32),
                helper.make_node("Gather", [centers, f"{name}_wide"], [f"{name}_unscaled"], name=f"{name}_Gather"),
                helper.make_node("Mul", [f"{name}_unscaled", scale], [result], name=f"{name}_Mul"),
            ]
        return result

    def finish(self) -> onnx.ModelProto:
        model = self.network.edited(self.nodes).to_model(list(self.stored.values()), opset=self.opset)
        model.producer_name = "compresskit"
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
            raise InputError(f"the quantized model does not pass onnx.checker: {first_line(error)}") from error
        return model


class _Static(_Emitter):
    """Emits weights and activations."""

    def __init__(self, network: Network, plan: Plan, weights: Mapping[str, Grid], activations: Mapping[str, Grid]) -> None:
        super().__init__(network, weights)
        self.plan = plan
        self.activations = activations
        self.layers = {layer.output: layer for layer in plan.layers}
        self.stem = {name: members[0] for members in plan.sets for name in members}
        self.made_in_integers: set[str] = set()
        self.left_out: set[str] = set()

    def build(self) -> onnx.ModelProto:
        for name in self.network.inputs:
            self.after(name)
        for node in self.network.nodes:
            if node.output[0] in self.left_out:
                continue
            if node.output[0] in self.plan.integer:
                self.integer(node)
            else:
                self.nodes.append(node)
                for name in node.output:
                    self.after(name)
        return self.finish()

    def after(self, name: str) -> None:
        """Quantize what a float node (or nobody) made, for integer readers."""
        if name in self.activations:
            self.quantize(name, name, f"{name}_dequantized")

    def integer(self, node: NodeProto) -> None:
        """A node that runs in integers, and the quantization of what it makes."""
        if node.op_type == "Pad" and activation_container(self.activations[node.output[0]].bits).bits == 8:
            self.pad(node)
            return
        layer = self.layers.get(node.output[0])
        renamed = {name: self.readable(name) for name in node.input if name in self.activations}
        if layer is not None:
            renamed[layer.weight] = self.weight(layer)
            if layer.bias is not None:
                renamed[layer.bias] = self.bias(layer, layer.bias)
        changed = _with_inputs(node, renamed)
        results = {name: self.result_of(name) for name in node.output}
        changed.output[:] = [f"{end}_float" if end in self.activations else name for name, end in results.items()]
        self.nodes.append(changed)
        for end in results.values():
            if end in self.activations:
                self.made_in_integers.add(end)
                self.quantize(f"{end}_float", end, end)

    def pad(self, node: NodeProto) -> None:
        """`Pad` of the integers themselves: there is no kernel that ONNX Runtime would fuse for it."""
        (result,) = node.output
        scale, zero, _ = self.parameters(result)
        axes = node.input[3:4]
        padded = [f"{node.input[0]}_quantized", node.input[1], zero, *axes]
        self.nodes.append(helper.make_node("Pad", padded, [f"{result}_quantized"], name=node.name, mode="constant"))
        self.made_in_integers.add(result)
        self.dequantize(f"{result}_quantized", scale, zero, result)

    def readable(self, name: str) -> str:
        return name if name in self.made_in_integers else f"{name}_dequantized"

    def result_of(self, name: str) -> str:
        """What `name` becomes: itself, or what the ReLU behind it made where clipping at the grid's ends does all that the ReLU does."""
        end = self.plan.result(name)
        if end == name or not _clips_as(self.network, end, self.activations[end]):
            return name
        self.left_out.add(end)
        return end

    def parameters(self, name: str) -> tuple[str, str, Grid]:
        """Scale and zero point of a tensor, stored once a set."""
        grid, stem = self.activations[name], self.stem[name]
        zero = self.store(f"{stem}_zero_point", np.asarray(grid.zero), activation_container(grid.bits))
        return self.store_scale(f"{stem}_scale", grid.scale), zero, grid

    def quantize(self, source: str, name: str, result: str) -> None:
        """`source` to the integers of tensor `name`, and those to the float `result`."""
        scale, zero, grid = self.parameters(name)
        if grid.bits not in (8, 16):  # the element type would let through more
            ends = [self.store_scale(f"{name}_{end}", grid.dequantize(np.array(at))) for end, at in (("least", grid.low), ("greatest", grid.high))]
            self.nodes.append(helper.make_node("Clip", [source, *ends], [f"{name}_clipped"], name=f"{name}_Clip"))
            source = f"{name}_clipped"
        integers = f"{name}_quantized"
        self.nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero], [integers], name=f"{name}_QuantizeLinear"))
        self.dequantize(integers, scale, zero, result)

    def bias(self, layer: Layer, bias: str) -> str:
        stem = f"{layer.output}_bias"
        values, scale = quantized_bias(self.network.constants[bias], self.activations[layer.input], self.grids[layer.weight])
        integers = self.store(f"{stem}_quantized", values, Container(TensorProto.INT32, 32, 13))
        zero = self.store(f"{stem}_zero_point", np.zeros(scale.shape, np.int32), Container(TensorProto.INT32, 32, 13))
        return self.dequantize(integers, self.store_scale(f"{stem}_scale", scale), zero, f"{stem}_dequantized", axis=0)


def _clips_as(network: Network, end: str, grid: Grid) -> bool:
    """Whether clipping to `grid` does what the `Relu` or `Clip` does that makes `end`."""
    least, greatest = (float(grid.dequantize(np.array(at))) for at in (grid.low, grid.high))
    node = network.makers[end]
    bound = float(network.constants[node.input[2]]) if node.op_type == "Clip" and len(node.input) > 2 and node.input[2] else np.inf
    return least == 0 and greatest <= bound * (1 + 1e-6)


def _with_inputs(node: NodeProto, renamed: Mapping[str, str]) -> NodeProto:
    changed = NodeProto()
    changed.CopyFrom(node)
    changed.input[:] = [renamed.get(name, name) for name in node.input]
    return changed
