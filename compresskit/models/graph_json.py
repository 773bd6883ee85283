"""An fx graph as JSON and back: data, never code.

fx turns a graph into Python source and executes it, so that a hostile name would be code. Whatever is decoded here is therefore
either a name of harmless characters, a node made before, a number, or a value from a table.

Values that JSON lacks are objects of one key: `{"node": "relu"}`, `{"tuple": [1, 2]}`, `{"slice": [0, null, 1]}`,
`{"torch": "float32"}` (dtypes, layouts, memory formats), `{"device": "cpu"}`, `{"float": "inf"}`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch._ops import OpOverload

from compresskit.errors import InputError
from compresskit.models.leaf_config import decode_leaf, encode_leaf, own_tensors
from compresskit.models.safe_ops import function_of, name_of

Json = Any

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PART = r"(?!__)[\w:/+ -]+"
_PATH = re.compile(rf"{_PART}(\.{_PART})*", re.ASCII)
DTYPES: Mapping[str, torch.dtype] = {
    str(kind).removeprefix("torch."): kind
    for kind in (
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.uint8,
        torch.bool,
    )
}
_TORCH: Mapping[str, Any] = {
    **DTYPES,
    "strided": torch.strided,
    **{name: getattr(torch, name) for name in ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d")},
}


def encode_graph(module: fx.GraphModule) -> tuple[Json, dict[str, torch.Tensor]]:
    """A graph as JSON, and its distinct tensors by name (the module's own, not copies).

    Raises:
        InputError: it calls something that a checkpoint has no form for.
    """
    leaves: dict[str, Json] = {}
    tensors: dict[str, torch.Tensor] = {}
    for node in module.graph.nodes:
        target = str(node.target)
        if node.op == "call_module" and target not in leaves:
            leaf = module.get_submodule(target)
            leaves[target] = encode_leaf(target, leaf)
            tensors.update({f"{target}.{name}": tensor for name, tensor in own_tensors(leaf).items()})
        elif node.op == "get_attr":
            tensors[target] = _attribute(module, target)
    first = {id(tensor): name for name, tensor in sorted(tensors.items(), reverse=True)}
    encoded = {
        "nodes": [_encode_node(node) for node in module.graph.nodes],
        "leaves": leaves,
        "parameters": sorted(name for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter)),
        "shared": {name: first[id(tensor)] for name, tensor in tensors.items() if first[id(tensor)] != name},
    }
    return encoded, {name: tensor for name, tensor in sorted(tensors.items()) if first[id(tensor)] == name}


def decode_graph(encoded: Json, tensors: Mapping[str, torch.Tensor]) -> fx.GraphModule:
    """The graph that `encode_graph` took apart, in evaluation mode.

    Raises:
        InputError: it calls something that a checkpoint may not call, or its tensors do not fit.
        Exception: anything else, where the JSON does not have the form above.
    """
    parameters = set(encoded["parameters"])
    stored = {name: nn.Parameter(tensor, tensor.is_floating_point()) if name in parameters else tensor for name, tensor in tensors.items()}
    stored.update({name: stored[first] for name, first in encoded["shared"].items()})
    root: dict[str, Any] = {}
    for name, leaf in encoded["leaves"].items():
        root[_path(name)] = _filled(name, decode_leaf(leaf), stored)
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for node in encoded["nodes"]:
        nodes[node["name"]] = _decode_node(graph, node, nodes)
        if node["op"] == "get_attr":
            root[node["target"]] = stored[node["target"]]
    graph.lint()
    return fx.GraphModule(root, graph, class_name="Lifted").eval()


def _filled(name: str, leaf: nn.Module, stored: Mapping[str, torch.Tensor]) -> nn.Module:
    for key, blank in own_tensors(leaf).items():
        tensor = stored[f"{name}.{key}"]
        if tensor.shape != blank.shape:
            raise InputError(f"the checkpoint's {name}.{key} is {tuple(tensor.shape)}, its layer expects {tuple(blank.shape)}")
        setattr(leaf, key, tensor)
    return leaf


def _attribute(module: fx.GraphModule, target: str) -> torch.Tensor:
    parent, _, name = target.rpartition(".")
    value = getattr(module.get_submodule(parent), name)
    if not isinstance(value, torch.Tensor):
        raise InputError(f"the model holds {target}, a {type(value).__name__}, which cannot be stored in a checkpoint: write .onnx instead")
    return value


def _encode_node(node: fx.Node) -> Json:
    target = name_of(node.target) if node.op == "call_function" else str(node.target)
    if node.op not in ("placeholder", "get_attr", "call_module", "call_function", "output"):
        raise InputError(f"the model has a {node.op} of {target}, which cannot be stored in a checkpoint: write .onnx instead")
    kwargs = {key: encode_value(value) for key, value in node.kwargs.items()}
    return {"name": node.name, "op": node.op, "target": target, "args": [encode_value(arg) for arg in node.args], "kwargs": kwargs}


def _decode_node(graph: fx.Graph, encoded: Json, nodes: Mapping[str, fx.Node]) -> fx.Node:
    op, name = encoded["op"], _identifier(encoded["name"])
    args = tuple(decode_value(arg, nodes) for arg in encoded["args"])
    kwargs = {_identifier(key): decode_value(value, nodes) for key, value in encoded["kwargs"].items()}
    target: Any
    if op == "call_function":
        target = function_of(encoded["target"])
        _check_operands(target, encoded["target"], (*args, *kwargs.values()))
    elif op in ("placeholder", "output"):
        target = _identifier(encoded["target"])
    elif op in ("get_attr", "call_module"):
        target = _path(encoded["target"])
    else:
        raise InputError(f"the checkpoint has a node of kind {op!r}, which is none that this version knows")
    made = graph.create_node(op, target, args, kwargs, name=name)
    if made.name != name:
        raise InputError(f"the checkpoint has a node named {name!r}, which is taken or reserved")
    return made


def _check_operands(target: Callable[..., Any], name: str, values: Iterable[Any]) -> None:
    """Arithmetic is for numbers: `"a" * 10**12` would be a bomb."""
    kinds = (fx.Node, int, float, slice, tuple) if name == "operator.getitem" else (fx.Node, int, float)
    if not isinstance(target, OpOverload) and not all(isinstance(value, kinds) for value in values):
        raise InputError(f"the checkpoint calls {name} on something that is no number")


def encode_value(value: Any) -> Json:
    """An argument of a node as JSON.

    Raises:
        InputError: it has no form in JSON.
    """
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [encode_value(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encode_value(item) for item in value]}
    if isinstance(value, slice):
        return {"slice": [encode_value(item) for item in (value.start, value.stop, value.step)]}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    name = str(value).removeprefix("torch.")
    if _TORCH.get(name) is value:
        return {"torch": name}
    raise InputError(f"the model passes {value!r} to an operator, which cannot be stored in a checkpoint: write .onnx instead")


def decode_value(value: Json, nodes: Mapping[str, fx.Node]) -> Any:
    """What `encode_value` encoded; `nodes` are those made so far, by name.

    Raises:
        InputError: it is none of the known forms.
        KeyError, TypeError, ValueError: it has not the parts of its form.
    """
    if isinstance(value, list):
        return [decode_value(item, nodes) for item in value]
    if not isinstance(value, dict):
        return value
    ((form, content),) = value.items()
    if form == "node":
        return nodes[content]
    if form == "tuple":
        return tuple(decode_value(item, nodes) for item in content)
    if form == "slice":
        start, stop, step = (decode_value(item, nodes) for item in content)
        return slice(start, stop, step)
    if form == "torch":
        return _TORCH[content]
    if form == "device":
        return torch.device(content)
    if form == "float":
        return float(content)
    raise InputError(f"the checkpoint has a value of form {form!r}, which is none that this version knows")


def _identifier(name: str) -> str:
    if not _IDENTIFIER.fullmatch(name):
        raise InputError(f"the checkpoint has a name {name!r}, which is no identifier")
    return name


def _path(name: str) -> str:
    if not _PATH.fullmatch(name):
        raise InputError(f"the checkpoint names a layer {name!r}, which has characters that no layer's name may have")
    return name
