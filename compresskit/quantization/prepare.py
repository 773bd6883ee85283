"""What is done to a float model before it is quantized, none of which changes what it computes.

read at opset 13 or later ─► idle nodes dropped ─► batch norms folded ─► global pooling restored ─► MatMul + Add as Gemm
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, helper

from compresskit.errors import InputError
from compresskit.quantization.network import Network, attribute, is_plain, opset_of
from compresskit.wording import first_line, listed

LOWEST_OPSET = 13  # the first whose DequantizeLinear has a scale a channel
_QUANTIZED_OPS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
_HALVES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def prepare(model: onnx.ModelProto, source: str, *, opset: int = LOWEST_OPSET) -> Network:
    """The graph of a checked float model, simplified and at `opset` or later.

    Raises:
        InputError: it is quantized already, of half precision, its shapes contradict each other, or it cannot be brought to `opset`.
    """
    _refuse_unfit(model, source)
    _check_shapes(model, source)
    network = Network.of(converted(model, opset, source))
    for step in (_without_idle, _with_norms_folded, _with_pooling, _with_gemm):
        network = step(network)
    return network


def converted(model: onnx.ModelProto, opset: int, source: str) -> onnx.ModelProto:
    """The model at `opset`, or as it is where it is at a later one.

    Raises:
        InputError: onnx's converter cannot.
    """
    found = opset_of(model)
    if found >= opset:
        return model
    try:
        result = onnx.version_converter.convert_version(model, opset)
        result.ir_version = max(result.ir_version, helper.find_min_ir_version_for(result.opset_import, ignore_unknown=True))
        onnx.checker.check_model(result, full_check=True)
    except Exception as error:  # the converter's C++ part raises RuntimeError, the checker three kinds of its own
        reason = first_line(error)
        raise InputError(f"{source}: opset {found} cannot be brought to {opset}, which this needs ({reason}): export the model anew") from error
    return result


def _refuse_unfit(model: onnx.ModelProto, source: str) -> None:
    quantized = sorted({node.op_type for node in model.graph.node if node.op_type in _QUANTIZED_OPS or node.op_type.startswith("QLinear")})
    if quantized:
        raise InputError(f"{source}: is quantized already ({listed(quantized)}): start from the float model")
    halves = [tensor.name for tensor in model.graph.initializer if tensor.data_type in _HALVES and tensor.dims]
    if halves:
        raise InputError(f"{source}: its weights are of half precision ({listed(halves, 2)}): start from the float32 model")


def _check_shapes(model: onnx.ModelProto, source: str) -> None:
    """Infer all shapes strictly: what follows relies on weights that fit their operators."""
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception as error:  # InferenceError, but also RuntimeError and ValueError of the C++ part
        raise InputError(f"{source}: its operators do not fit together: {first_line(error)}") from error


def _without_idle(network: Network) -> Network:
    """Without `Identity`, and `Dropout`, which does nothing in inference."""
    renamed: dict[str, str] = {}
    nodes = []
    for node in network.nodes:
        idle = is_plain(node) and (node.op_type == "Identity" or (node.op_type == "Dropout" and _is_off(network, node)))
        if idle and node.output[0] not in network.outputs and not any(_in_subgraph(network, name) for name in node.output):
            renamed[node.output[0]] = renamed.get(node.input[0], node.input[0])
        else:
            nodes.append(_reading(node, renamed))
    return network.edited(nodes)


def _is_off(network: Network, node: NodeProto) -> bool:
    training = network.constants.get(node.input[2], np.True_) if len(node.input) > 2 and node.input[2] else np.False_
    return not bool(training) and not any(network.uses[name] for name in node.output[1:])


def _in_subgraph(network: Network, name: str) -> bool:
    return any(name not in node.input for node in network.readers.get(name, ()))


def _reading(node: NodeProto, renamed: dict[str, str]) -> NodeProto:
    """`node`, reading other tensors in place of those in `renamed`."""
    if not any(name in renamed for name in node.input):
        return node
    changed = NodeProto()
    changed.CopyFrom(node)
    changed.input[:] = [renamed.get(name, name) for name in node.input]
    return changed


def _with_norms_folded(network: Network) -> Network:
    """Each batch norm whose only source is a convolution or Gemm with stored weights becomes part of it."""
    folded: dict[str, NodeProto] = {}
    gone: set[str] = set()
    constants: dict[str, np.ndarray] = {}
    for norm in network.nodes:
        layer = network.makers.get(norm.input[0]) if norm.op_type == "BatchNormalization" and is_plain(norm) else None
        if layer is None or not _takes_norm(network, layer, norm):
            continue
        gain, shift = _affine(network, norm)
        axis = 0 if layer.op_type == "Conv" or attribute(layer, "transB", 0) else 1
        weight = network.constants[layer.input[1]]
        bias = network.constants[layer.input[2]] if len(layer.input) > 2 and layer.input[2] else np.zeros(len(gain), np.float32)
        spread = [-1 if at == axis else 1 for at in range(weight.ndim)]
        names = [f"{norm.output[0]}_{part}" for part in ("folded_weight", "folded_bias")]
        constants[names[0]] = (weight.astype(np.float64) * gain.reshape(spread)).astype(np.float32)
        constants[names[1]] = (bias.astype(np.float64) * gain + shift).astype(np.float32)
        merged = NodeProto()
        merged.CopyFrom(layer)
        merged.input[:] = [layer.input[0], *names]
        merged.output[:] = norm.output[:1]
        folded[layer.output[0]] = merged
        gone.add(norm.output[0])
    nodes = [folded.get(node.output[0], node) if node.output else node for node in network.nodes]
    return network.edited([node for node in nodes if not (node.op_type == "BatchNormalization" and node.output[0] in gone)], constants)


def _takes_norm(network: Network, layer: NodeProto, norm: NodeProto) -> bool:
    if layer.op_type not in ("Conv", "Gemm") or not is_plain(layer) or network.uses[layer.output[0]] != 1:
        return False
    if layer.op_type == "Gemm" and (attribute(layer, "alpha", 1.0) != 1 or attribute(layer, "beta", 1.0) != 1):
        return False
    names = [*filter(None, layer.input[1:]), *norm.input[1:]]
    if not all(name in network.constants for name in names) or attribute(norm, "training_mode", 0):
        return False
    weight, *vectors = (network.constants[name] for name in names)
    axis = 0 if layer.op_type == "Conv" or attribute(layer, "transB", 0) else 1
    fits = weight.ndim > axis and all(vector.shape == weight.shape[axis : axis + 1] for vector in vectors)
    return fits and not any(network.uses[name] for name in norm.output[1:])


def _affine(network: Network, norm: NodeProto) -> tuple[np.ndarray, np.ndarray]:
    """(C,) gain and shift of a batch norm, float64."""
    scale, offset, mean, variance = (network.constants[name].astype(np.float64) for name in norm.input[1:5])
    gain = scale / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
    return gain, offset - mean * gain


def _with_pooling(network: Network) -> Network:
    """`GlobalAveragePool`, which runs in integers, in place of `ReduceMean` over all spatial axes."""
    nodes = []
    for node in network.nodes:
        if node.op_type == "ReduceMean" and is_plain(node) and _is_global(network, node):
            flat = not attribute(node, "keepdims", 1)
            pooled = f"{node.output[0]}_pooled" if flat else node.output[0]
            nodes.append(helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=node.name))
            if flat:
                nodes.append(helper.make_node("Flatten", [pooled], [node.output[0]], name=f"{node.name}_flat", axis=1))
        else:
            nodes.append(node)
    return network.edited(nodes)


def _is_global(network: Network, node: NodeProto) -> bool:
    rank = network.ranks.get(node.input[0], 0)
    axes = attribute(node, "axes")
    if axes is None and len(node.input) > 1 and node.input[1] in network.constants:
        axes = network.constants[node.input[1]].ravel().tolist()
    return rank > 2 and axes is not None and sorted(int(axis) % rank for axis in axes) == list(range(2, rank))


def _with_gemm(network: Network) -> Network:
    """One `Gemm` for each `MatMul` of a matrix with stored weights whose only reader adds a stored vector: its bias joins the integers."""
    gemms: dict[str, NodeProto] = {}
    gone: set[str] = set()
    for add in network.nodes:
        if add.op_type != "Add" or not is_plain(add):
            continue
        for product, vector in (tuple(add.input), tuple(reversed(add.input))):
            maker = network.makers.get(product)
            if maker is not None and _is_affine(network, maker, product, vector):
                gemms[add.output[0]] = helper.make_node("Gemm", [*maker.input, vector], add.output, name=maker.name)
                gone.add(product)
                break
    kept = [node for node in network.nodes if not gone & set(node.output)]
    return network.edited([gemms.get(node.output[0], node) if node.output else node for node in kept])


def _is_affine(network: Network, maker: NodeProto, product: str, vector: str) -> bool:
    if maker.op_type != "MatMul" or not is_plain(maker) or network.uses[product] != 1 or vector not in network.constants:
        return False
    weight, bias = network.constants.get(maker.input[1]), network.constants[vector]
    return weight is not None and weight.ndim == 2 and network.ranks.get(maker.input[0]) == 2 and bias.shape == weight.shape[1:]
