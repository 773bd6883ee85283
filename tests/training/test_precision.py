from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compresskit.training.precision import autocast, lay_out, resolve, restore_layout

CPU = torch.device("cpu")


def test_auto_is_bf16_exactly_where_the_processor_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda able=able: able)
        assert resolve("auto", CPU) == expected
        assert resolve("fp32", CPU) == "fp32"
        assert resolve("bf16", CPU) == "bf16"


def test_auto_on_a_gpu_asks_for_more_than_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert resolve("auto", torch.device("cuda")) == "fp32"


def test_bf16_is_for_products_only_and_norms_keep_their_statistics_in_fp32() -> None:
    conv, norm, x = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), torch.randn(2, 1, 8, 8)
    with autocast("bf16", CPU):
        out = conv(x)
        norm(out)
    assert out.dtype == torch.bfloat16
    assert conv.weight.dtype == norm.running_mean.dtype == torch.float32
    with autocast("fp32", CPU):
        assert conv(x).dtype == torch.float32


def test_a_layout_is_taken_and_given_back() -> None:
    net, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)
    weight = net.weight.detach().clone()
    assert lay_out(net, x) == torch.channels_last
    assert net.weight.is_contiguous(memory_format=torch.channels_last)
    restore_layout(net)
    assert net.weight.is_contiguous()
    assert torch.equal(net.weight, weight)


def test_what_cannot_be_laid_out_stays_contiguous() -> None:
    class Viewing(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).view(len(x), -1)

    net = Viewing(3, 4, 3)
    assert lay_out(net, torch.randn(2, 3, 8, 8)) == torch.contiguous_format
    assert net.weight.is_contiguous()
    assert lay_out(nn.Linear(4, 3), torch.randn(2, 4)) == torch.contiguous_format
