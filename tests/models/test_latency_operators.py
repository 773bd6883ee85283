"""What is timed: every call with multiply-adds, told apart by all but its widths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from compresskit.models.cost import node_costs
from compresskit.models.graph import TensorSpec
from compresskit.models.latency_operators import Operator, Use, factorable, factored, fingerprint, uses
from compresskit.models.latency_probe import idle, probe
from compresskit.models.lift import graph_from_module
from compresskit.models.sessions import run
from compresskit.models.zoo import build
from compresskit.pruning.factors import factorize


def used(net: nn.Module, *shape: int | None, batch: int = 1) -> tuple[Use, ...]:
    return uses(graph_from_module(net.eval(), [TensorSpec("x", shape)], source="test"), batch)


@pytest.mark.parametrize("name", ["resnet8", "shufflenet_v2_x0_5", "vit"])
def test_every_call_with_macs_is_timed(name: str) -> None:
    graph = graph_from_module(build(name).eval(), [TensorSpec("x", (None, 3, 32, 32))], source=name)
    assert len(uses(graph)) == sum(cost.macs > 0 for cost in node_costs(graph))


def test_widths_do_not_tell_operators_apart() -> None:
    first, second = used(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)), None, 3, 9, 7, batch=2)
    assert first.operator == second.operator
    assert first.operator.shape == (2, 9, 7)
    assert (first.inputs, first.outputs, second.inputs, second.outputs) == (3, 8, 8, 4)
    assert fingerprint([first, second]) == fingerprint([second, first]) != fingerprint([first])


class Attended(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 4, 6, 10) -> (N, 4, 6, 5)."""
        return F.scaled_dot_product_attention(x, x, x[..., :5])


class Multiplied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6, 9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 4, 6) -> (N, 4, 4)."""
        y = x @ self.weight
        return y @ y.transpose(1, 2)


LAYERS = {
    "dense": (nn.Conv2d(6, 8, 3, 2, 1), (None, 6, 9, 9), "conv 3x3 of stride 2 on 1x9x9, 6 to 8 wide"),
    "same": (nn.Conv1d(6, 8, 4, padding="same", dilation=2), (None, 6, 9), "conv 4 on 1x9, 6 to 8 wide"),
    "valid": (nn.Conv2d(6, 8, (1, 3), padding="valid"), (None, 6, 9, 9), "conv 1x3 on 1x9x9, 6 to 8 wide"),
    "depthwise": (nn.Conv2d(6, 12, 3, groups=6), (None, 6, 9, 9), "conv 3x3, depthwise, on 1x9x9, 1 to 12 wide"),
    "grouped": (nn.Conv2d(6, 9, 3, groups=3), (None, 6, 9, 9), "conv 3x3 in 3 groups on 1x9x9, 6 to 9 wide"),
    "transposed": (nn.ConvTranspose2d(6, 8, 3, 2, 1, output_padding=1), (None, 6, 9, 9), "transposed 3x3 of stride 2 on 1x9x9, 6 to 8 wide"),
    "linear": (nn.Linear(6, 8), (None, 6), "linear on 1, 6 to 8 wide"),
    "linear of tokens": (nn.Linear(6, 8), (None, 5, 6), "linear on 1x5, 6 to 8 wide"),
    "attention": (Attended(), (None, 4, 6, 10), "attention on 1x4x6x6, 10 to 5 wide"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_probe_does_the_work_of_the_layer(name: str) -> None:
    """At the layer's own widths, the model that is timed reads what the layer reads and yields what it yields."""
    layer, shape, words = LAYERS[name]
    (use,) = used(layer, *shape)
    assert str(use).startswith(f"{words} (")
    made = probe(use.operator, use.inputs, use.outputs)
    example = torch.zeros([1 if size is None else size for size in shape])
    assert next(iter(made.feeds.values())).shape == example.shape
    assert run(made.model, made.feeds)[0].shape == layer(example).shape


@pytest.mark.parametrize("name", ["dense", "same", "valid", "linear", "linear of tokens"])
def test_factors_are_the_calls_of_the_factorized_layer(name: str) -> None:
    layer, shape, _ = LAYERS[name]
    graph = graph_from_module(nn.Sequential(layer).eval(), [TensorSpec("x", shape)], source="test")
    (use,) = uses(graph)
    (node,) = (node for node in graph.module.graph.nodes if node.op == "call_module")
    made = uses(factorize(graph, {str(node.target): 3}, {}))
    expected = factored(use, 3)
    assert factorable(use)
    assert use.rank == min(layer.weight.shape[0], layer.weight[0].numel())
    assert [(call.operator, call.inputs, call.outputs) for call in made] == [(call.operator, call.inputs, call.outputs) for call in expected]


@pytest.mark.parametrize("name", ["depthwise", "grouped", "transposed", "attention"])
def test_what_has_no_factors(name: str) -> None:
    layer, shape, _ = LAYERS[name]
    assert not any(map(factorable, used(layer, *shape)))


def test_products_of_weights_and_of_activations() -> None:
    by_weight, by_activation = used(Multiplied(), None, 4, 6)
    assert (by_weight.operator, by_weight.inputs, by_weight.outputs) == (Operator("linear", (1, 4)), 6, 9)
    assert (by_activation.operator, by_activation.inputs, by_activation.outputs) == (Operator("product", (1, 4)), 9, 4)
    made = probe(by_activation.operator, 9, 4)
    assert run(made.model, made.feeds)[0].shape == (1, 4, 4)


@given(groups=st.sampled_from([0, 1, 4]), inputs=st.integers(1, 20), outputs=st.integers(1, 20), multiplier=st.integers(1, 2))
def test_every_width_has_a_probe(groups: int, inputs: int, outputs: int, multiplier: int) -> None:
    operator = Operator("conv", (1, 5, 5), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), groups=groups, multiplier=multiplier if groups == 0 else 1)
    made = probe(operator, inputs, outputs)
    (result,) = run(made.model, made.feeds)
    assert outputs <= result.shape[1] < outputs + max(groups, multiplier)
    assert (result >= 0).all()


def test_idle_computes_nothing() -> None:
    model = idle()
    np.testing.assert_array_equal(run(model.model, model.feeds)[0], model.feeds["x"])
