"""Arithmetic, comparison and logic with broadcasting, on data and on host values."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from compresskit.models.onnx_ops.values import TORCH_DTYPES, Node, Value, host, is_host, op, operand, pack, tensor

_SYMBOLIC_FLOAT = (float, torch.SymFloat)


def _divide(a: Any, b: Any) -> Any:
    """ONNX division: integers round towards zero."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        dtype = a.dtype if isinstance(a, Tensor) else b.dtype
        return a / b if dtype.is_floating_point else torch.div(torch.as_tensor(a), b, rounding_mode="trunc")
    if isinstance(a, _SYMBOLIC_FLOAT) or isinstance(b, _SYMBOLIC_FLOAT):
        return a / b
    if isinstance(a, torch.SymInt) or isinstance(b, torch.SymInt):  # sizes: never negative
        return a // b
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _power(a: Any, b: Any) -> Any:
    """ONNX power: the result has the base's type."""
    result = a**b
    return result.to(a.dtype) if isinstance(a, Tensor) else result


def _compare(function: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """A comparison; of two numbers as a Python truth value, which decides it where they are symbolic."""
    result = function(a, b)
    return result if isinstance(result, Tensor) else bool(result)


def _logical(function: Callable[[Tensor, Tensor], Tensor], a: Any, b: Any) -> Any:
    result = function(torch.as_tensor(a), torch.as_tensor(b))
    return result if isinstance(a, Tensor) or isinstance(b, Tensor) else bool(result)


_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": _divide,
    "Pow": _power,
}
_TRUTH: Mapping[str, Callable[[Any, Any], Any]] = {
    "Equal": functools.partial(_compare, operator.eq),
    "Greater": functools.partial(_compare, operator.gt),
    "GreaterOrEqual": functools.partial(_compare, operator.ge),
    "Less": functools.partial(_compare, operator.lt),
    "LessOrEqual": functools.partial(_compare, operator.le),
    "And": functools.partial(_logical, torch.logical_and),
    "Or": functools.partial(_logical, torch.logical_or),
    "Xor": functools.partial(_logical, torch.logical_xor),
}


def _on_host(function: Callable[..., Any], *arrays: np.ndarray, dtype: Any = None) -> np.ndarray:
    """`function` of Python numbers, entry by entry."""
    return pack(np.frompyfunc(function, len(arrays), 1)(*(array.astype(object) for array in arrays)), dtype)


def _binary(function: Callable[[Any, Any], Any], dtype: Any, node: Node, a: Value, b: Value) -> Value:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return _on_host(function, a, b, dtype=dtype or (b.dtype if a.dtype == object else a.dtype))
    return function(operand(a, b), operand(b, a))


for _name, _function in _ARITHMETIC.items():
    op(_name)(functools.partial(_binary, _function, None))
for _name, _function in _TRUTH.items():
    op(_name)(functools.partial(_binary, _function, np.bool_))


def _fold(pair: Callable[[Any, Any], Any], node: Node, first: Value, *rest: Value) -> Value:
    """A variadic operator as a chain of pairs."""
    result = first
    for value in rest:
        result = _binary(pair, None, node, result, value)
    return result


def _extreme(on_tensors: Callable[[Tensor, Tensor], Tensor], on_numbers: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        return on_numbers(a, b)
    dtype = a.dtype if isinstance(a, Tensor) else b.dtype
    return on_tensors(torch.as_tensor(a, dtype=dtype), torch.as_tensor(b, dtype=dtype))


op("Sum")(functools.partial(_fold, operator.add))
op("Min")(functools.partial(_fold, functools.partial(_extreme, torch.minimum, min)))
op("Max")(functools.partial(_fold, functools.partial(_extreme, torch.maximum, max)))


@op("Mean")
def mean(node: Node, *values: Value) -> Value:
    return tensor(_fold(operator.add, node, *values)) / len(values)


@op("Mod")
def mod(node: Node, a: Value, b: Value) -> Value:
    function = math.fmod if node.get("fmod", 0) else operator.mod
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return _on_host(function, a, b, dtype=a.dtype)
    return (torch.fmod if node.get("fmod", 0) else torch.remainder)(tensor(a), operand(b, a))


@op("Where")
def where(node: Node, condition: Value, a: Value, b: Value) -> Value:
    if is_host(condition, a, b):
        arrays = (host(value, "operand") for value in (condition, a, b))
        return _on_host(lambda chosen, x, y: x if chosen else y, *arrays, dtype=_common(a, b))
    return torch.where(tensor(condition), operand(a, b), operand(b, a))


def _common(a: Value, b: Value) -> Any:
    return b.dtype if a.dtype == object else a.dtype


@op("Not")
def negation(node: Node, x: Value) -> Value:
    return ~x


@op("Cast")
def cast(node: Node, x: Value) -> Value:
    return _cast(x, onnx.helper.tensor_dtype_to_np_dtype(node.get("to")))


@op("CastLike")
def cast_like(node: Node, x: Value, like: Value) -> Value:
    if isinstance(like, Tensor):
        return tensor(x).to(like.dtype)
    return _cast(x, like.dtype if like.dtype != object else np.dtype(np.int64))


def _cast(x: Value, dtype: np.dtype) -> Value:
    if dtype.name not in TORCH_DTYPES:
        raise ValueError(f"casting to {dtype.name} is not supported")
    if isinstance(x, Tensor):
        return x.to(TORCH_DTYPES[dtype.name])
    if x.dtype != object:
        return x.astype(dtype)
    return _on_host(torch.sym_float if dtype.kind == "f" else torch.sym_int, x, dtype=dtype)


# name: (on tensors, on host arrays where shapes are computed with it)
_UNARY: Mapping[str, tuple[Callable[[Tensor], Tensor], Callable[[Any], Any] | None]] = {
    "Abs": (torch.abs, abs),
    "Neg": (torch.neg, operator.neg),
    "Floor": (torch.floor, math.floor),
    "Ceil": (torch.ceil, math.ceil),
    "Round": (torch.round, round),
    "Sqrt": (torch.sqrt, math.sqrt),
    "Exp": (torch.exp, math.exp),
    "Log": (torch.log, math.log),
    "Reciprocal": (torch.reciprocal, lambda x: 1 / x),
    "Sign": (torch.sign, None),
    "Sin": (torch.sin, None),
    "Cos": (torch.cos, None),
    "Tan": (torch.tan, None),
    "Asin": (torch.asin, None),
    "Acos": (torch.acos, None),
    "Atan": (torch.atan, None),
    "Sinh": (torch.sinh, None),
    "Cosh": (torch.cosh, None),
    "Asinh": (torch.asinh, None),
    "Acosh": (torch.acosh, None),
    "Atanh": (torch.atanh, None),
    "Erf": (torch.erf, None),
    "IsNaN": (torch.isnan, None),
}


def _unary(on_tensors: Callable[[Tensor], Tensor], on_numbers: Callable[[Any], Any] | None, node: Node, x: Value) -> Value:
    if isinstance(x, np.ndarray) and on_numbers is not None:
        return _on_host(on_numbers, x, dtype=x.dtype)
    return on_tensors(tensor(x))


for _name, (_on_tensors, _on_numbers) in _UNARY.items():
    op(_name)(functools.partial(_unary, _on_tensors, _on_numbers))
