"""Which functions a stored graph may call, and their names.

A stored graph is data from a stranger, so a name in it is never imported: it is looked up among PyTorch's ATen
operators, or in a short table of arithmetic. An ATen operator qualifies by its schema, not by a list that would lag behind PyTorch:

- it writes to none of its arguments, so it can do nothing but compute a value;
- it takes tensors, numbers and devices; text only in the few parameters that choose a mode. `from_file(filename)`, `save`,
  `warn`, whatever takes a storage or a handle: all fall to this;
- it returns tensors or numbers;
- it is public. Private operators may leave the checks of sizes to their callers; those that exports contain are listed.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._ops import OpOverload

from compresskit.errors import InputError

_PRIVATE = frozenset(
    (
        "_adaptive_avg_pool2d",
        "_assert_scalar",
        "_log_softmax",
        "_native_batch_norm_legit_no_training",
        "_safe_softmax",
        "_scaled_dot_product_attention_math",
        "_softmax",
        "_to_copy",
        "_unsafe_view",
        "_upsample_bicubic2d_aa",
        "_upsample_bilinear2d_aa",
    )
)
_MODES = frozenset(("approximate", "equation", "indexing", "interpolation", "mode", "ord", "padding", "reduce", "rounding_mode"))
_VALUE = re.compile(r"(Optional\[|List\[)*(Tensor|int|float|bool|number|Device|Generator)\]*")
_TEXT = re.compile(r"(Optional\[)?str\]?")
_ATEN_NAME = re.compile(r"aten\.([A-Za-z_]\w*)\.(\w+)", re.ASCII)

_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    **{f"operator.{name}": getattr(operator, name) for name in ("getitem", "add", "sub", "mul", "floordiv", "truediv", "mod", "neg")},
    **{f"operator.{name}": getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_")},
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc")},
    **{f"torch.{name}": getattr(torch, name) for name in ("sym_float", "sym_int", "sym_max", "sym_min", "sym_not")},
}
_NAMES = {function: name for name, function in _ARITHMETIC.items()}


def name_of(target: Any) -> str:
    """The name under which a graph stores a function that it calls.

    Raises:
        InputError: a stored graph may not call it.
    """
    if isinstance(target, OpOverload):
        if target.namespace == "aten" and _is_safe(target):
            return f"aten.{target._schema.name.removeprefix('aten::')}.{target._overloadname}"
    elif callable(target) and target in _NAMES:
        return _NAMES[target]
    raise InputError(f"the model calls {target}, which cannot be stored in a checkpoint: write .onnx instead")


def function_of(name: str) -> Callable[..., Any]:
    """The function that `name_of` gave `name` to.

    Raises:
        InputError: there is none, or a stored graph may not call it.
    """
    if name in _ARITHMETIC:
        return _ARITHMETIC[name]
    match = _ATEN_NAME.fullmatch(name)
    packet = getattr(torch.ops.aten, match[1], None) if match else None
    found = getattr(packet, match[2], None) if match else None
    if not isinstance(found, OpOverload) or not _is_safe(found):
        raise InputError(f"the checkpoint calls {name!r}, which is no operator that a checkpoint may call")
    return found


def _is_safe(op: OpOverload) -> bool:
    """The rule in the module's docstring."""
    name = op._schema.name.removeprefix("aten::")
    returns = [str(value.type) for value in op._schema.returns]
    return (
        (not name.startswith("_") or name in _PRIVATE)
        and not op._schema.is_mutable
        and all(
            _VALUE.fullmatch(str(arg.type)) or (_TEXT.fullmatch(str(arg.type)) and _text_is_harmless(name, arg.name)) for arg in op._schema.arguments
        )
        and (bool(returns) or name == "_assert_scalar")
        and all(_VALUE.fullmatch(kind) for kind in returns)
    )


def _text_is_harmless(op: str, argument: str) -> bool:
    return argument in _MODES or (op, argument) == ("_assert_scalar", "assert_msg")
