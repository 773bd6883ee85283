"""Activations, arithmetic, comparisons and casts."""

from __future__ import annotations

import math
from typing import Any

import torch

from compresskit.models.onnx_emit.emitter import Emitter, UnsupportedError, handles
from compresskit.models.onnx_emit.values import Size, Value

_UNARY = {
    "abs": "Abs",
    "ceil": "Ceil",
    "cos": "Cos",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "hardswish": "HardSwish",
    "log": "Log",
    "logical_not": "Not",
    "mish": "Mish",
    "neg": "Neg",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "round": "Round",
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "tan": "Tan",
    "tanh": "Tanh",
}
_ARITHMETIC = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "maximum": "Max", "minimum": "Min"}
_COMPARISON = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
_LOGICAL = {"logical_and": "And", "logical_or": "Or", "bitwise_and": "And", "bitwise_or": "Or"}


def _register_unary(name: str, kind: str) -> None:
    @handles(f"aten.{name}.default")
    def unary(e: Emitter, x: Value) -> str:
        return e.op(kind, e.cast(x, e.result.dtype))


def _register_arithmetic(name: str, kind: str) -> None:
    @handles(*(f"aten.{name}.{overload}" for overload in _overloads(name)))
    def arithmetic(e: Emitter, x: Value | float, other: Value | float, alpha: float = 1) -> str:
        dtype = e.result.dtype
        right = e.operand(other, dtype)
        if alpha != 1:
            right = e.op("Mul", right, e.constant(alpha, dtype))
        return e.op(kind, e.operand(x, dtype), right)


def _register_comparison(name: str, kind: str) -> None:
    @handles(f"aten.{name}.Tensor", f"aten.{name}.Scalar")
    def comparison(e: Emitter, x: Value, other: Value | float) -> str:
        return e.op(kind, *_promoted(e, x, other))


def _register_logical(name: str, kind: str) -> None:
    overload = "default" if name.startswith("logical") else "Tensor"

    @handles(f"aten.{name}.{overload}")
    def logical(e: Emitter, x: Value, other: Value) -> str:
        if x.dtype != torch.bool or other.dtype != torch.bool:
            raise UnsupportedError(f"aten.{name} of numbers")
        return e.op(kind, x, other)


def _overloads(name: str) -> tuple[str, ...]:
    if name == "pow":
        return ("Tensor_Tensor", "Tensor_Scalar", "Scalar")
    return ("default",) if name.endswith("imum") else ("Tensor", "Scalar")


for _name, _kind in _UNARY.items():
    _register_unary(_name, _kind)
for _name, _kind in _ARITHMETIC.items():
    _register_arithmetic(_name, _kind)
for _name, _kind in _COMPARISON.items():
    _register_comparison(_name, _kind)
for _name, _kind in _LOGICAL.items():
    _register_logical(_name, _kind)


@handles("aten.ne.Tensor", "aten.ne.Scalar")
def not_equal(e: Emitter, x: Value, other: Value | float) -> str:
    return e.op("Not", e.op("Equal", *_promoted(e, x, other)))


@handles("aten.rsub.Tensor", "aten.rsub.Scalar")
def rsub(e: Emitter, x: Value, other: Value | float, alpha: float = 1) -> str:
    dtype = e.result.dtype
    left = e.operand(x, dtype)
    scaled = left if alpha == 1 else e.op("Mul", left, e.constant(alpha, dtype))
    return e.op("Sub", e.operand(other, dtype), scaled)


@handles("aten.div.Tensor_mode", "aten.div.Scalar_mode")
def div_rounded(e: Emitter, x: Value, other: Value | float, *, rounding_mode: str | None) -> str:
    dtype = e.result.dtype
    if rounding_mode is not None and not dtype.is_floating_point:
        raise UnsupportedError("rounded division of integers")
    quotient = e.op("Div", e.operand(x, dtype), e.operand(other, dtype))
    if rounding_mode == "trunc":
        return e.op("Mul", e.op("Sign", quotient), e.op("Floor", e.op("Abs", quotient)))
    return e.op("Floor", quotient) if rounding_mode == "floor" else quotient


@handles("aten.rsqrt.default")
def rsqrt(e: Emitter, x: Value) -> str:
    return e.op("Reciprocal", e.op("Sqrt", e.cast(x, e.result.dtype)))


@handles("aten.square.default")
def square(e: Emitter, x: Value) -> str:
    return e.op("Mul", x, x)


@handles("aten.silu.default")
def silu(e: Emitter, x: Value) -> str:
    return e.op("Mul", x, e.op("Sigmoid", x))


@handles("aten.gelu.default")
def gelu(e: Emitter, x: Value, *, approximate: str = "none") -> str:
    return e.op("Gelu", x, approximate=None if approximate == "none" else approximate)


@handles("aten.hardsigmoid.default")
def hardsigmoid(e: Emitter, x: Value) -> str:
    return e.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@handles("aten.leaky_relu.default")
def leaky_relu(e: Emitter, x: Value, negative_slope: float = 0.01) -> str:
    return e.op("LeakyRelu", x, alpha=float(negative_slope))


@handles("aten.elu.default")
def elu(e: Emitter, x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> str:
    if scale != 1 or input_scale != 1:
        raise UnsupportedError("aten.elu with a scale")
    return e.op("Elu", x, alpha=float(alpha))


@handles("aten.celu.default")
def celu(e: Emitter, x: Value, alpha: float = 1) -> str:
    return e.op("Celu", x, alpha=float(alpha))


@handles("aten.softplus.default")
def softplus(e: Emitter, x: Value, beta: float = 1, threshold: float = 20) -> str:
    """Above `threshold` torch returns x itself, which differs from softplus by less than exp(-20)."""
    if beta == 1:
        return e.op("Softplus", x)
    factor = e.constant(beta, x.dtype)
    return e.op("Div", e.op("Softplus", e.op("Mul", x, factor)), factor)


@handles("aten.glu.default")
def glu(e: Emitter, x: Value, dim: int = -1) -> str:
    half, gate = e.op_many("Split", 2, x, axis=dim, num_outputs=2)
    return e.op("Mul", half, e.op("Sigmoid", gate))


@handles("aten.relu6.default")
def relu6(e: Emitter, x: Value) -> str:
    return clamp(e, x, 0, 6)


@handles("aten.hardtanh.default")
def hardtanh(e: Emitter, x: Value, min_val: float = -1, max_val: float = 1) -> str:
    return clamp(e, x, min_val, max_val)


@handles("aten.clamp.default", "aten.clip.default")
def clamp(e: Emitter, x: Value, min: float | None = None, max: float | None = None) -> str:
    dtype = e.result.dtype
    low, high = (None if bound is None else e.constant(bound, dtype) for bound in (min, max))
    return e.op("Clip", e.cast(x, dtype), low, high)


@handles("aten.clamp_min.default")
def clamp_min(e: Emitter, x: Value, min: float) -> str:
    return clamp(e, x, min)


@handles("aten.clamp_max.default")
def clamp_max(e: Emitter, x: Value, max: float) -> str:
    return clamp(e, x, None, max)


@handles("aten.where.self")
def where(e: Emitter, condition: Value, x: Value, other: Value) -> str:
    dtype = e.result.dtype
    return e.op("Where", condition, e.cast(x, dtype), e.cast(other, dtype))


@handles("aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def where_scalar(e: Emitter, condition: Value, x: Value | float, other: Value | float) -> str:
    dtype = e.result.dtype
    return e.op("Where", condition, e.operand(x, dtype), e.operand(other, dtype))


@handles("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(e: Emitter, x: Value, mask: Value, value: Value | float) -> str:
    return e.op("Where", mask, e.operand(value, x.dtype), x)


@handles("aten.to.dtype", "aten.to.device", "aten.to.dtype_layout", "aten._to_copy.default", "aten.to.other", "aten.type_as.default")
def to(e: Emitter, x: Value, *args: Any, **options: Any) -> str:
    return e.cast(x, e.result.dtype)


@handles("aten.alias.default", "aten.clone.default", "aten.contiguous.default", "aten.detach.default", "aten.detach_.default")
@handles("aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default", "aten.lift_fresh_copy.default")
def unchanged(e: Emitter, x: Value, *args: Any, **options: Any) -> str:
    return x.name


@handles("operator.add", "operator.sub", "operator.mul", "operator.floordiv")
def size_arithmetic(e: Emitter, left: int | Size, right: int | Size) -> str:
    """Arithmetic on sizes; they are positive, so integer Div rounds as `//` does."""
    kinds = {"add": "Add", "sub": "Sub", "mul": "Mul", "floordiv": "Div"}
    kind = kinds[e.node.target.__name__]  # type: ignore[union-attr]
    return e.op(kind, *(side.name if isinstance(side, Size) else e.constant([side]) for side in (left, right)))


def _promoted(e: Emitter, x: Value, other: Value | float) -> tuple[str, str]:
    """Both sides of a comparison in the type that torch compares them in."""
    right = torch.empty((1,) * other.rank, dtype=other.dtype) if isinstance(other, Value) else other
    dtype = torch.result_type(torch.empty((1,) * x.rank, dtype=x.dtype), right)
    if not isinstance(other, Value) and not math.isfinite(other) and not dtype.is_floating_point:
        raise UnsupportedError("comparing integers with infinity")
    return e.operand(x, dtype), e.operand(other, dtype)
