"""Makes checkpoints that we never wrote, with seals that match: whoever can change a file can seal it again."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

Edit: TypeAlias = Callable[[dict[str, Any]], Any]


def forge(data: bytes, edit: Edit) -> bytes:
    """The checkpoint `data` (a `.pt`) with an edited description of its graph."""

    def edit_graph(payload: dict[str, Any]) -> None:
        description = json.loads(payload["graph"])
        edit(description)
        payload["graph"] = json.dumps(description)

    return forge_payload(data, edit_graph)


def forge_payload(data: bytes, edit: Edit) -> bytes:
    """The checkpoint `data` (a `.pt`) with anything in it edited."""
    payload = torch.load(io.BytesIO(data), weights_only=True)
    edit(payload)
    stream = io.BytesIO()
    torch.save(payload, stream)
    blank = stream.getvalue()[:-2] + (71).to_bytes(2, "little") + b"sha256:"
    return blank + hashlib.sha256(blank).hexdigest().encode()


def forge_bytes(data: bytes, old: bytes, new: bytes) -> bytes:
    """The checkpoint `data` (a `.safetensors`) with `old` replaced by `new` of the same length."""
    assert len(old) == len(new)
    start = data.index(b"sha256:") + 7
    assert old in data[start + 64 :]
    blank = data[:start] + data[start + 64 :].replace(old, new)
    return blank[:start] + hashlib.sha256(blank).hexdigest().encode() + blank[start:]


def node(description: dict[str, Any], op: str) -> dict[str, Any]:
    """The first node of a kind."""
    found: dict[str, Any] = next(node for node in description["graph"]["nodes"] if node["op"] == op)
    return found


def calls(description: dict[str, Any], target: str, *args: Any) -> None:
    """Put a call of something else in the place of the first function."""
    node(description, "call_function").update(target=target, args=list(args), kwargs={})


def square(description: dict[str, Any], times: int) -> None:
    """Square a number again and again, before all else."""
    called = {"op": "call_function", "target": "operator.mul", "kwargs": {}}
    squares = [{**called, "name": f"n{turn}", "args": [{"node": f"n{turn - 1}"}] * 2 if turn else [10**9, 10**9]} for turn in range(times)]
    description["graph"]["nodes"][1:1] = squares


CODE = "__import__('os').abort()"
FORGERIES: dict[str, tuple[Edit, str]] = {
    "import": (lambda d: calls(d, "os.system", "true"), "calls 'os.system', which is no operator"),
    "file": (lambda d: calls(d, "aten.from_file.default", "/etc/passwd"), "calls 'aten.from_file.default', which is no operator"),
    "in place": (lambda d: node(d, "call_function").update(target="aten.relu_.default"), "'aten.relu_.default', which is no operator"),
    "dunder": (lambda d: node(d, "call_function").update(target="aten.__class__.__init__"), "'aten.__class__.__init__', which is no operator"),
    "placeholder": (lambda d: node(d, "placeholder").update(target=f"x={CODE}"), "which is no identifier"),
    "name": (lambda d: node(d, "call_function").update(name=f"x\n    {CODE}"), "which is no identifier"),
    "keyword": (lambda d: node(d, "call_function").update(kwargs={f"x={CODE},y": 1}), "which is no identifier"),
    "attribute": (lambda d: node(d, "call_module").update(target=f'0", {CODE})#'), "characters that no layer's name may have"),
    "class": (
        lambda d: d["graph"]["leaves"].update({"__class__.__base__.forward": {"type": "Dropout", "config": {"p": 0.5}}}),
        "characters that no layer's name may have",
    ),
    "type": (lambda d: d["graph"]["leaves"]["0"].update(type="Module"), "a layer of type 'Module'"),
    "setting": (lambda d: d["graph"]["leaves"]["0"]["config"].update(out_channels=1 << 40), "its layer expects (1099511627776"),
    "settings": (lambda d: d["graph"]["leaves"]["0"]["config"].update(device="cuda"), "a layer of type 'Conv2d'"),
    "text bomb": (lambda d: calls(d, "operator.mul", "a", 1 << 40), "calls operator.mul on something that is no number"),
    "tuple bomb": (lambda d: calls(d, "operator.mul", {"tuple": [1]}, 1 << 40), "calls operator.mul on something that is no number"),
    "unknown form": (lambda d: node(d, "call_function").update(args=[{"eval": CODE}]), "a value of form 'eval'"),
    "no such node": (lambda d: node(d, "call_function").update(args=[{"node": "nothing"}]), "none that compresskit writes ('nothing')"),
    "op": (lambda d: node(d, "call_function").update(op="call_method"), "a node of kind 'call_method'"),
    "deep": (lambda d: node(d, "call_function").update(args=json.loads("[" * 900 + "]" * 900)), "recursion"),
    "builtin name": (lambda d: node(d, "placeholder").update(name="print"), "a node named 'print', which is taken or reserved"),
    "inputs": (lambda d: d["inputs"].clear(), "describes 0 inputs, its graph has 1"),
    "shape": (lambda d: d["inputs"][0].update(shape=["x"]), "the shape ('x',)"),
    "vast shape": (lambda d: d["inputs"][0].update(shape=[None, 10**12]), "the shape (None, 1000000000000)"),
    "negative shape": (lambda d: d["inputs"][0].update(shape=[None, -1]), "the shape (None, -1)"),
    "truth for a size": (lambda d: d["inputs"][0].update(shape=[None, True]), "the shape (None, True)"),
    "shape that does not fit": (lambda d: d["inputs"][0].update(shape=[None, 5, 8, 8]), "does not fit its inputs"),
    "not an object": (lambda d: d.update(graph=[1]), "none that compresskit writes"),
    "missing": (lambda d: d.clear(), "none that compresskit writes"),
}

BOMBS: dict[str, Edit] = {
    "full": lambda description: calls(description, "aten.full.default", [10**12], 1),
    "full of overflowing shape": lambda description: calls(description, "aten.full.default", [1 << 32, 1 << 32, 16], 1),
    "arange": lambda description: calls(description, "aten.arange.default", 10**12),
    "repeat": lambda description: calls(description, "aten.repeat.default", {"node": node(description, "placeholder")["name"]}, [1 << 20, 1 << 12]),
    "outer product": lambda description: calls(description, "aten.full.default", [1 << 16, (1 << 15) + 1], 1),
    "input": lambda description: description["inputs"][0].update(shape=[None, 10**12]),
    "a number squared 60 times": lambda description: square(description, 60),
}
