"""Parameter paths for ONNX constants: the file's own where it has good ones, else made from the node that uses them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

from compresskit.models.onnx_ops.values import Node

_PATH = re.compile(r"(?!\d+$)[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_TAKEN_BY_TORCH = frozenset(dir(nn.Module())) | {"_plan", "_baked"}


class Names:
    """Hands out paths, no two alike and none inside another.

    `layer1.0.conv1.weight` keeps its path. A weight called `onnx::Conv_760` becomes `<node>.weight`, the node `/layer1/layer1.0/conv1/Conv`
    read as `layer1.0.conv1`, `Conv_12` as itself.
    """

    def __init__(self, constants: Iterable[str]) -> None:
        self._own = {name for name in constants if _PATH.fullmatch(name) and not _TAKEN_BY_TORCH & set(name.split("."))}
        self._kept = {name.removesuffix(".weight") for name in self._own if name.endswith(".weight")}
        for name in self._own:
            scopes = name.split(".")[:-2]  # what the file puts modules into is no leaf
            self._kept |= {".".join(scopes[:end]) for end in range(1, len(scopes) + 1)}
        self._used: set[str] = set()

    def leaf(self, node: Node, *weights: str) -> str:
        """The prefix for the parameters of `node`, whose weight the file calls by each of `weights`, the best name first."""
        for weight in weights:
            prefix = weight.removesuffix(".weight")
            if weight in self._own and prefix != weight and self._free(prefix):
                return self._take(prefix)
        return self._numbered(path_of(node), self._kept)

    def loose(self, node: Node, *constants: str) -> str:
        """The path for a constant that no leaf owns, called by each of `constants` in the file, the best name first."""
        for constant in constants:
            if constant in self._own and self._free(constant):
                return self._take(constant)
        return self._numbered(f"{path_of(node)}.constant", self._own)

    def _numbered(self, path: str, kept: set[str]) -> str:
        """`path`, or where that is not free the same in one piece, which lies in nothing, with a number."""
        candidate, count = path, 0
        while candidate in kept or not self._free(candidate):
            count += 1
            candidate = f"{path.replace('.', '_')}_{count}"
        return self._take(candidate)

    def _take(self, path: str) -> str:
        self._used.add(path)
        return path

    def _free(self, path: str) -> bool:
        """Whether no used path is `path`, contains it or lies in it."""
        return not any(path == used or path.startswith(f"{used}.") or used.startswith(f"{path}.") for used in self._used)


def path_of(node: Node) -> str:
    """A node's name as a module path: scopes joined, each repeated scope once, the operator's own name dropped.

    >>> path_of(Node("/layer1/layer1.0/conv1/Conv", "Conv", 17))
    'layer1.0.conv1'
    >>> path_of(Node("Conv_12", "Conv", 11))
    'Conv_12'
    """
    scopes = [scope for scope in node.name.split("/") if scope]
    if len(scopes) > 1 and re.fullmatch(rf"{re.escape(node.op)}(_\d+)?", scopes[-1], re.IGNORECASE):
        scopes = scopes[:-1]
    joined: list[str] = []
    for scope in scopes:
        if joined and scope.startswith(f"{joined[-1]}."):
            joined.pop()
        joined.append(scope)
    parts = [re.sub(r"\W", "_", part, flags=re.ASCII) for scope in joined for part in scope.split(".") if part]
    return ".".join(f"{part}_" if part in _TAKEN_BY_TORCH else part for part in parts) or node.op
