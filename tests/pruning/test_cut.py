"""Every cut equals the zeroed original, costs what was foretold, and leaves the original alone: over nets with all kinds of coupling."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph, TensorSpec, leaf
from compresskit.models.lift import graph_from_module
from compresskit.pruning.cut import TOLERANCE, cut, disagreement, widths, zeroed
from compresskit.pruning.footprint import Footprint, footprint
from compresskit.pruning.groups import Prunable, find_groups
from compresskit.pruning.target import plan

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGE = (None, 3, 8, 8)


class Net(nn.Module):
    """A forward function over named layers."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def unit(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Sequential:
    """Convolution, norm and an activation that never dies."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options), nn.BatchNorm2d(outputs), nn.SiLU())


def head(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 5))


def residual() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        x = F.silu(x + m.same(x))
        return m.head(F.silu(m.short(x) + m.wider(x)))

    return Net(forward, stem=unit(3, 8), same=unit(8, 8), wider=unit(8, 12, stride=2), short=nn.Conv2d(8, 12, 1, stride=2), head=head(12))


def padded_shortcut() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        return m.head(F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)) + m.wider(x))

    return Net(forward, stem=unit(3, 8), wider=unit(8, 16, stride=2), head=head(16))


def zeros_shortcut() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        return m.head(torch.cat([x, torch.zeros_like(x)], 1) + torch.cat([x.new_zeros(x.shape[0], 4, 8, 8), m.part(x)], 1))

    return Net(forward, stem=unit(3, 8), part=unit(8, 12), head=head(16))


def dense() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        x = torch.cat([x, m.a(x)], 1)
        x = torch.cat([x, m.b(F.silu(m.norm(x)))], 1)
        return m.head(m.squeeze(x))

    return Net(forward, stem=unit(3, 6), a=unit(6, 4), norm=nn.BatchNorm2d(10), b=unit(10, 5), squeeze=unit(15, 7, 1), head=head(7))


def grouped() -> nn.Module:
    return nn.Sequential(unit(3, 8), unit(8, 12, groups=4), unit(12, 12, groups=2), head(12))


def depthwise() -> nn.Module:
    return nn.Sequential(unit(3, 8), unit(8, 8, groups=8), unit(8, 16, groups=8), unit(16, 6, 1), nn.ConvTranspose2d(6, 6, 2, 2, groups=6), head(6))


def unet() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        a = m.a(x)
        b = m.b(F.max_pool2d(a, 2))
        c = m.c(F.avg_pool2d(b, 2))
        b = m.up(torch.cat([m.rise(c), b], 1))
        return m.out(torch.cat([F.interpolate(b, scale_factor=2, mode="bilinear"), a], 1))

    layers = {"a": unit(3, 6), "b": unit(6, 8), "c": unit(8, 10), "rise": nn.ConvTranspose2d(10, 7, 2, 2), "up": unit(15, 9)}
    return Net(forward, **layers, out=nn.Conv2d(15, 4, 1))


def shuffle(m: Any, x: Tensor, mix: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    a, b = mix(m.stem(x))
    a, b = mix(torch.cat([a, m.a(b)], 1))
    return m.head(torch.cat([a, m.b(b)], 1))


def mix_viewed(x: Tensor) -> tuple[Tensor, Tensor]:
    n, c, h, w = x.shape
    a, b = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w).chunk(2, 1)
    return a, b


def mix_selected(x: Tensor) -> tuple[Tensor, Tensor]:
    n, c, h, w = x.shape
    pairs = x.reshape(n * c // 2, 2, h * w).permute(1, 0, 2).reshape(2, -1, c // 2, h, w)
    return pairs[0], pairs[1]


def mix_native(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.channel_shuffle(x, 4).split([6, 6], 1)  # type: ignore[return-value]


def shuffled(mix: Callable[[Tensor], tuple[Tensor, Tensor]]) -> nn.Module:
    return Net(partial(shuffle, mix=mix), stem=unit(3, 12), a=unit(6, 6), b=unit(6, 6), head=head(12))


def sliced() -> nn.Module:
    """Cross-stage partial: slices with and without bounds."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        return m.head(torch.cat([x[:, 4:], m.part(x[:, :4]), x.narrow(1, 2, 3)], 1))

    return Net(forward, stem=unit(3, 10), part=unit(4, 5), head=head(14))


def flattened() -> nn.Module:
    return nn.Sequential(unit(3, 6, stride=2), nn.Flatten(), nn.Linear(96, 10), nn.SiLU(), nn.Unflatten(1, (2, 5)), nn.Flatten(), nn.Linear(10, 5))


def channels_last() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x.permute(0, 3, 1, 2))
        return m.head(m.body(x.permute(0, 2, 3, 1)).reshape(x.shape[0], -1))

    return Net(forward, stem=unit(3, 6, stride=2), body=nn.Sequential(nn.Linear(6, 7), nn.SiLU()), head=nn.Linear(112, 5))


def attention(heads: int) -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        q, k, v = m.qkv(x).unflatten(2, (3, heads, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        x = m.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)) + x
        return m.head(m.norm(x).mean(1))

    width = 4 * heads
    return Net(forward, qkv=nn.Linear(width, 3 * width), proj=nn.Linear(width, width), norm=nn.LayerNorm(width), head=nn.Linear(width, 5))


def separate_attention() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        q, k, v = (layer(x).view(x.shape[0], 6, 3, 4).transpose(1, 2) for layer in (m.q, m.k, m.v))
        x = ((q @ k.transpose(-2, -1)) * 0.5).softmax(-1) @ v
        return m.head(m.proj(x.transpose(1, 2).reshape(-1, 6, 12)).mean(1))

    return Net(forward, q=nn.Linear(12, 12), k=nn.Linear(12, 12), v=nn.Linear(12, 12), proj=nn.Linear(12, 8), head=nn.Linear(8, 5))


def multihead() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.into(x)
        return m.head(m.attention(x, x, x, need_weights=False)[0].mean(1))

    return Net(forward, into=nn.Linear(8, 12), attention=nn.MultiheadAttention(12, 3, batch_first=True), head=nn.Linear(12, 5))


def encoder() -> nn.Module:
    return nn.Sequential(nn.TransformerEncoderLayer(12, 3, 16, 0.0, activation="gelu", batch_first=True), nn.Flatten(), nn.Linear(72, 5))


def mixer() -> nn.Module:
    """Linear layers over tokens and over channels in turn."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.into(x)
        x = x + m.tokens(x.transpose(1, 2)).transpose(1, 2)
        return m.head((x + m.channels(x)).mean(1))

    def mlp(width: int, inner: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    return Net(forward, into=nn.Linear(8, 9), tokens=mlp(6, 7), channels=mlp(9, 11), head=nn.Linear(9, 5))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 20), nn.BatchNorm1d(20), nn.PReLU(20), nn.Linear(20, 12), nn.ELU(), nn.Linear(12, 5))


def squeeze_excite() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        x = x * m.scale(x.mean((2, 3), keepdim=True))
        return m.head(x * m.gate(x.mean((2, 3)))[:, :, None, None] * m.factor)

    scale = nn.Sequential(nn.Conv2d(10, 4, 1), nn.SiLU(), nn.Conv2d(4, 10, 1), nn.Sigmoid())
    net = Net(forward, stem=unit(3, 10), scale=scale, gate=nn.Sequential(nn.Linear(10, 10), nn.Sigmoid()), head=head(10))
    net.register_buffer("factor", torch.rand(1, 10, 1, 1))
    return net


def pixels() -> nn.Module:
    return nn.Sequential(unit(3, 6), nn.PixelUnshuffle(2), unit(24, 16), nn.PixelShuffle(2), unit(4, 6), head(6))


def tied() -> nn.Module:
    """One layer called twice, and a weight under two names."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        return m.head(m.again(m.shared(m.shared(x))).mean((2, 3)) @ m.again[0].weight.mean((2, 3)))

    shared = unit(8, 8)
    again = unit(8, 8)
    again[0].weight = shared[0].weight
    return Net(forward, stem=unit(3, 8), shared=shared, again=again, head=nn.Linear(8, 5))


def dual_path() -> nn.Module:
    """The first channels are added to, and others appended, around a convolution in groups."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        for body in (m.first, m.second):
            y = body(x)
            x = F.silu(torch.cat([x[:, :8] + y[:, :8], x[:, 8:], y[:, 8:]], 1))
        return m.head(x)

    first, second = (nn.Sequential(unit(width, 12, 1), unit(12, 12, groups=4), unit(12, 12, 1)) for width in (12, 16))
    return Net(forward, stem=unit(3, 12), first=first, second=second, head=head(20))


def masked_texts() -> nn.Module:
    """Attention that passes over the tokens whose first number is below zero, with a scale of its own."""

    def forward(m: Any, x: Tensor) -> Tensor:
        mask = (x[:, :, 0] > 0)[:, None, None] | m.first
        x = m.into(x)
        q, k, v = (layer(x).unflatten(2, (2, -1)).transpose(1, 2) for layer in (m.q, m.k, m.v))
        return m.head(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.5).transpose(1, 2).flatten(2).mean(1))

    net = Net(forward, into=nn.Linear(8, 12), **{name: nn.Linear(12, 12) for name in "qkv"}, head=nn.Linear(12, 5))
    net.register_buffer("first", torch.arange(6) == 0)
    return net


def one_dimension() -> nn.Module:
    body = [nn.Conv1d(3, 6, 3), nn.InstanceNorm1d(6, affine=True, track_running_stats=True), nn.SiLU(), nn.Conv1d(6, 12, 3), nn.GLU(1)]
    return nn.Sequential(*body, nn.ConvTranspose1d(6, 7, 3), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(63, 5))


def three_dimensions() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(2, 6, 3, padding=1), nn.BatchNorm3d(6), nn.SiLU(), nn.Conv3d(6, 4, 2), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 5)
    )


def recurrent() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(F.silu(m.after(m.lstm(F.silu(m.into(x)))[0])).mean(1))

    layers = {"into": nn.Linear(8, 6), "lstm": nn.LSTM(6, 7, batch_first=True), "after": nn.Linear(7, 9), "head": nn.Linear(9, 5)}
    return Net(forward, **layers)


def several_outputs() -> nn.Module:
    def forward(m: Any, x: Tensor) -> tuple[Tensor, ...]:
        x = m.stem(x)
        y = torch.max(m.a(x), m.b(x))
        z = m.c(y)
        return m.head(x), m.head(y).softmax(1), z.amax(1), z.norm(dim=1), y.topk(2, dim=3)[0].std((2, 3)) @ m.head[2].weight.T

    return Net(forward, stem=unit(3, 8), a=unit(8, 8), b=unit(8, 8), c=unit(8, 6), head=head(8))


def repeated() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        row = m.row(x.mean((2, 3)))[:, :, None, None].expand_as(x)
        return m.head((x + row).repeat(1, 2, 1, 1) * torch.stack([x, row]).amax(0).repeat(1, 2, 1, 1))

    return Net(forward, stem=unit(3, 8), row=nn.Linear(8, 8), head=head(16))


def normed() -> nn.Module:
    return nn.Sequential(unit(3, 8), nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8), unit(8, 6), head(6))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int | None, ...]]] = {
    "residual": (residual, IMAGE),
    "padded shortcut": (padded_shortcut, IMAGE),
    "zeros shortcut": (zeros_shortcut, IMAGE),
    "dense": (dense, IMAGE),
    "grouped": (grouped, IMAGE),
    "depthwise": (depthwise, IMAGE),
    "dual path": (dual_path, IMAGE),
    "masked texts": (masked_texts, (None, 6, 8)),
    "unet": (unet, IMAGE),
    "shuffle by view": (partial(shuffled, mix_viewed), IMAGE),
    "shuffle by select": (partial(shuffled, mix_selected), IMAGE),
    "shuffle by name": (partial(shuffled, mix_native), IMAGE),
    "sliced": (sliced, IMAGE),
    "flattened": (flattened, IMAGE),
    "channels last": (channels_last, (None, 8, 8, 3)),
    "attention, 2 heads": (partial(attention, 2), (None, 6, 8)),
    "attention, 3 heads": (partial(attention, 3), (None, 6, 12)),
    "separate attention": (separate_attention, (None, 6, 12)),
    "multihead": (multihead, (None, 6, 8)),
    "encoder": (encoder, (None, 6, 12)),
    "mixer": (mixer, (None, 6, 8)),
    "perceptron": (perceptron, IMAGE),
    "squeeze and excite": (squeeze_excite, IMAGE),
    "pixels": (pixels, IMAGE),
    "tied": (tied, IMAGE),
    "one dimension": (one_dimension, (None, 3, 20)),
    "three dimensions": (three_dimensions, (None, 2, 4, 4, 4)),
    "recurrent": (recurrent, (None, 6, 8)),
    "several outputs": (several_outputs, IMAGE),
    "repeated": (repeated, IMAGE),
    "normed": (normed, IMAGE),
}


@cache
def prepared(name: str) -> tuple[ModelGraph, Prunable, dict[str, Footprint]]:
    make, shape = NETS[name]
    torch.manual_seed(0)
    module = make()
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            nn.init.normal_(layer.weight, 0, 2 / layer.weight[0].numel() ** 0.5)  # so that signals do not fade
        if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
    graph = graph_from_module(module, [TensorSpec("x", shape)], source=name)
    prunable = find_groups(graph)
    return graph, prunable, {quantity: footprint(prunable.graph, prunable.coupling, quantity) for quantity in ("flops", "params", "size")}


def random_keep(prunable: Prunable, cost: Footprint, fraction: float, seed: int) -> np.ndarray:
    """A cut to about `fraction`, channels chosen at random."""
    draw = torch.Generator().manual_seed(seed)
    scores = [torch.rand(group.size, generator=draw) for group in prunable.groups]
    whole = cost(np.ones(prunable.coupling.classes, dtype=bool))
    return plan(prunable, scores, cost, fraction * whole).keep


def results(graph: ModelGraph, batch: int, seed: int = 0) -> list[Tensor]:
    with torch.no_grad():
        found = graph.module.eval()(*graph.example(batch, seed=seed))
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=3, derandomize=True)
@given(fraction=st.floats(0.02, 0.98), quantity=st.sampled_from(["flops", "params", "size"]), seed=st.integers(0, 10**6))
def test_a_cut_computes_and_costs_what_it_should(name: str, fraction: float, quantity: str, seed: int) -> None:
    _, prunable, costs = prepared(name)
    keep = random_keep(prunable, costs[quantity], fraction, seed)
    smaller = cut(prunable.graph, prunable.coupling, keep)

    assert disagreement(prunable.graph, prunable.coupling, keep, smaller) <= TOLERANCE
    real = total(smaller)
    assert (costs["flops"](keep), costs["params"](keep), costs["size"](keep)) == (real.macs, real.params, real.bytes)
    for cost in costs.values():
        kept = torch.tensor([keep[labels].mean() for labels in cost.dimensions], dtype=torch.float64)
        assert float(cost.relaxed(kept)) == pytest.approx(cost(keep), rel=1e-9, abs=100)  # an exact cost is rounded term by term
    assert all(size > 0 for tensor in smaller.module.state_dict().values() for size in tensor.shape)
    for batch in (1, 5):
        for before, after in zip(results(prunable.graph, batch), results(smaller, batch), strict=True):
            assert before.shape == after.shape


@pytest.mark.parametrize("name", NETS)
def test_the_check_is_not_met_by_dead_nets(name: str) -> None:
    """Even deep cuts leave results that depend on the inputs, or equality would prove nothing."""
    _, prunable, costs = prepared(name)
    reference = zeroed(prunable.graph, prunable.coupling, random_keep(prunable, costs["params"], 0.3, seed=0))
    assert any(not torch.allclose(one, two, rtol=1e-3) for one, two in zip(results(reference, 2, seed=1), results(reference, 2, seed=2), strict=True))


@pytest.mark.parametrize("name", ["residual", "shuffle by view", "attention, 3 heads", "tied"])
def test_the_original_is_left_alone(name: str) -> None:
    graph, prunable, costs = prepared(name)
    before, code = {key: value.clone() for key, value in graph.module.state_dict().items()}, graph.module.code
    cut(prunable.graph, prunable.coupling, random_keep(prunable, costs["flops"], 0.5, seed=0))
    zeroed(prunable.graph, prunable.coupling, random_keep(prunable, costs["flops"], 0.5, seed=0))
    assert graph.module.code == code
    assert all(torch.equal(before[key], value) for key, value in graph.module.state_dict().items())


def test_a_cut_can_be_cut_again() -> None:
    _, prunable, costs = prepared("shuffle by view")
    smaller = cut(prunable.graph, prunable.coupling, random_keep(prunable, costs["flops"], 0.6, seed=1))
    again = find_groups(smaller)
    keep = random_keep(again, footprint(again.graph, again.coupling, "flops"), 0.6, seed=2)
    assert disagreement(again.graph, again.coupling, keep, cut(again.graph, again.coupling, keep)) <= TOLERANCE


def test_a_wrong_cut_is_noticed() -> None:
    _, prunable, costs = prepared("residual")
    keep = random_keep(prunable, costs["flops"], 0.5, seed=0)
    smaller = cut(prunable.graph, prunable.coupling, keep)
    with torch.no_grad():
        smaller.module.get_parameter("head.2.weight").mul_(1.001)
    assert disagreement(prunable.graph, prunable.coupling, keep, smaller) > TOLERANCE
    with torch.no_grad():
        smaller.module.get_parameter("head.2.weight").fill_(torch.nan)
    assert disagreement(prunable.graph, prunable.coupling, keep, smaller) == float("inf")


def test_widths_are_those_of_the_weights() -> None:
    _, prunable, costs = prepared("depthwise")
    smaller = cut(prunable.graph, prunable.coupling, random_keep(prunable, costs["flops"], 0.4, seed=0))
    found = widths(smaller.module)
    assert found["1.0"] == found["0.0"] < 8
    assert found["2.0"] == 2 * found["1.0"]
    assert found["5.2"] == 5
    module: Any = smaller.module.get_submodule("2.0")
    assert (module.groups, module.in_channels, module.out_channels) == (found["1.0"], found["1.0"], found["2.0"])


def test_tied_weights_stay_tied() -> None:
    _, prunable, costs = prepared("tied")
    smaller = cut(prunable.graph, prunable.coupling, random_keep(prunable, costs["flops"], 0.5, seed=0))
    layers = [leaf(smaller, node) for node in smaller.module.graph.nodes if node.op == "call_module"]
    _, *shared = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert len(shared) == 3
    assert len({id(layer.weight) for layer in shared}) == 1
    assert all(layer.out_channels == len(layer.weight) < 8 for layer in shared)
