"""How each parametrised ATen call is written as an `nn.Module`: one small maker an operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

aten = torch.ops.aten
Maker = Callable[[Mapping[str, Any], Mapping[str, Any]], "nn.Module | None"]

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def _filled(module: nn.Module, weights: Mapping[str, Tensor | None]) -> nn.Module:
    """`module` (made on the meta device) with `weights` as its own parameters and buffers: shared, not copied.

    A weight that the model keeps as a buffer becomes a parameter that is not trained.
    """
    for name, _ in list(module.named_parameters(recurse=False)):
        weight = weights.get(name)
        setattr(module, name, weight if weight is None or isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False))
    for name, _ in list(module.named_buffers(recurse=False)):
        setattr(module, name, weights.get(name))
    return module.eval()


def _list(value: Any, length: int) -> tuple[int, ...]:
    """ATen writes `[1]` or `1` for the same number in every spatial direction."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    return tuple(values * length if len(values) == 1 else values)


def _conv(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    weight = weights["weight"]
    spatial = weight.ndim - 2
    padding = settings["padding"]
    module = _CONV[spatial](
        weight.shape[1] * settings["groups"],
        weight.shape[0],
        tuple(weight.shape[2:]),
        stride=_list(settings["stride"], spatial),
        padding=padding if isinstance(padding, str) else _list(padding, spatial),
        dilation=_list(settings["dilation"], spatial),
        groups=settings["groups"],
        bias="bias" in weights,
        device="meta",
    )
    return _filled(module, weights)


def _conv_transpose(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    weight = weights["weight"]
    spatial = weight.ndim - 2
    module = _TRANSPOSED[spatial](
        weight.shape[0],
        weight.shape[1] * settings["groups"],
        tuple(weight.shape[2:]),
        stride=_list(settings["stride"], spatial),
        padding=_list(settings["padding"], spatial),
        output_padding=_list(settings["output_padding"], spatial),
        groups=settings["groups"],
        bias="bias" in weights,
        dilation=_list(settings["dilation"], spatial),
        device="meta",
    )
    return _filled(module, weights)


def _convolution(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """The general form, which traced TorchScript has."""
    return (_conv_transpose if settings["transposed"] else _conv)(weights, settings)


def _linear(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    outs, ins = weights["weight"].shape
    return _filled(nn.Linear(ins, outs, bias="bias" in weights, device="meta"), weights)


def _batch_norm(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module | None:
    if "running_mean" not in weights:  # normalises with the batch's own statistics even in evaluation
        return None
    affine = "weight" in weights
    width = weights["running_mean"].shape[0]
    module = BatchNorm(width, eps=settings["eps"], momentum=settings["momentum"], affine=affine, device="meta")
    return _filled(module, {**weights, "num_batches_tracked": torch.zeros((), dtype=torch.int64)})


def _layer_norm(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    shape = list(settings["normalized_shape"])
    module = nn.LayerNorm(shape, settings["eps"], elementwise_affine="weight" in weights, bias="bias" in weights, device="meta")
    return _filled(module, weights)


def _group_norm(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module | None:
    if "weight" not in weights or "bias" not in weights:
        return None
    return _filled(nn.GroupNorm(settings["num_groups"], weights["weight"].shape[0], settings["eps"], device="meta"), weights)


def _embedding(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    padding = settings["padding_idx"]
    count, width = weights["weight"].shape
    return _filled(nn.Embedding(count, width, padding_idx=None if padding < 0 else padding, device="meta"), weights)


def _prelu(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    return _filled(nn.PReLU(weights["weight"].numel(), device="meta"), weights)


def _dropout(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    return nn.Dropout(settings["p"]).eval()


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over axis 1 of an input of any rank of 2 or more: the rank is the graph's affair, not the leaf's."""

    def _check_input_dim(self, input: Tensor) -> None:
        return None


LEAVES: Mapping[Any, Maker] = {
    aten.conv1d.default: _conv,
    aten.conv2d.default: _conv,
    aten.conv3d.default: _conv,
    aten.conv1d.padding: _conv,
    aten.conv2d.padding: _conv,
    aten.conv3d.padding: _conv,
    aten.conv_transpose1d.default: _conv_transpose,
    aten.conv_transpose2d.input: _conv_transpose,
    aten.conv_transpose3d.input: _conv_transpose,
    aten.convolution.default: _convolution,
    aten.linear.default: _linear,
    aten.batch_norm.default: _batch_norm,
    aten.layer_norm.default: _layer_norm,
    aten.group_norm.default: _group_norm,
    aten.embedding.default: _embedding,
    aten.prelu.default: _prelu,
    aten.dropout.default: _dropout,
}
