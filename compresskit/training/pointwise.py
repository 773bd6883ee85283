"""A way around a fault of oneDNN: strided 1x1 convolutions in bf16 on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def unit_strides(module: nn.Module) -> Iterator[None]:
    """Within the context, strided 1x1 convolutions of `module` pick their input positions first and then run at stride 1.

    The results are the same. With fewer than 16 input channels, in bf16 and channels_last, oneDNN's `jit_bf16_1x1` writes out of bounds in the
    backward pass of the strided form (torch 2.13, two threads or more) and takes the process down; cutting a ResNet makes just such layers.
    """
    changed: list[tuple[Any, Any]] = [(leaf, leaf.stride) for leaf in module.modules() if _is_strided_pointwise(leaf)]
    hooks = [leaf.register_forward_pre_hook(_picker(stride)) for leaf, stride in changed]
    for leaf, _ in changed:
        leaf.stride = (1, 1)
    try:
        yield
    finally:
        for leaf, stride in changed:
            leaf.stride = stride
        for hook in hooks:
            hook.remove()


def _is_strided_pointwise(leaf: Any) -> bool:
    pointwise = isinstance(leaf, nn.Conv2d) and leaf.kernel_size == (1, 1) and leaf.padding in ((0, 0), "valid")
    return pointwise and leaf.stride != (1, 1)


def _picker(stride: tuple[int, int]) -> Any:
    def pick(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0][..., :: stride[0], :: stride[1]],)

    return pick
