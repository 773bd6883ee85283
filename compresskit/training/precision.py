"""In which numbers and in which layout a model computes: bf16 and channels_last, where they help and work."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from compresskit.errors import UsageError
from compresskit.training.config import Precision


def resolve(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Turn "auto" into bf16 where the hardware computes in it, fp32 elsewhere. Emulated bf16 is slower than fp32."""
    if precision != "auto":
        return precision
    return "bf16" if _computes_in_bf16(device) else "fp32"


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def autocast(precision: Literal["fp32", "bf16"], device: torch.device) -> torch.autocast:
    """A context in which matrix products and convolutions run in `precision`, and what needs fp32 stays in it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def device_of(module: nn.Module) -> torch.device:
    """Where the parameters of `module` are.

    Raises:
        UsageError: it has none.
    """
    for parameter in module.parameters():
        return parameter.device
    raise UsageError(f"{type(module).__name__} has no parameters: there is nothing to train")


@torch.no_grad()
def lay_out(module: nn.Module, x: Tensor) -> torch.memory_format:
    """Put a model on images (N, C, H, W) into channels_last if it computes in it; return the layout that it is in.

    A model that views its activations (`x.view(n, -1)`) needs them contiguous, which only running it tells.
    """
    if x.ndim != 4:
        return torch.contiguous_format
    _to(module, torch.channels_last)
    try:
        module(x.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        _to(module, torch.contiguous_format)
        return torch.contiguous_format
    return torch.channels_last


def restore_layout(module: nn.Module) -> None:
    """Make every tensor of `module` contiguous again, as exporters expect."""
    _to(module, torch.contiguous_format)


def _to(module: nn.Module, layout: torch.memory_format) -> None:
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=layout)
