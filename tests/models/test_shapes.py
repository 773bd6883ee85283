"""Propagated shapes equal those of a real run, and the run leaves no trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

from compresskit.errors import InputError
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.shapes import propagate, shapes, tensors


class Net(nn.Module):
    """Convolution, norm, split, concatenation, a baked constant, a view of the batch, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout()
        self.head = nn.Linear(8, 4)
        self.register_buffer("shift", torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.norm(self.conv(x)).relu().chunk(2, dim=1)
        pooled = torch.cat([right, left], dim=1).mean((2, 3))
        return self.head(self.drop(pooled + self.shift + torch.ones(8))).view(x.shape[0], 2, 2)


@pytest.fixture
def graph() -> ModelGraph:
    return graph_from_module(Net(), [TensorSpec("x", (None, 3, 9, 9))], source="test")


class Shapes(fx.Interpreter):
    """The shapes of a real run."""

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        self.seen = {**getattr(self, "seen", {}), n.name: signature(value)}
        return value


def signature(value: object) -> object:
    if isinstance(value, list | tuple):
        return tuple(signature(item) for item in value)
    return (value.shape, value.stride(), value.dtype, value.device) if isinstance(value, Tensor) else value


@pytest.mark.parametrize("batch", [1, 3])
def test_shapes_equal_those_of_a_real_run(graph: ModelGraph, batch: int) -> None:
    run = Shapes(graph.module)
    run.run(*graph.example(batch))
    assert {name: signature(value) for name, value in shapes(graph, batch).items()} == run.seen


def test_a_baked_batch_wins() -> None:
    fixed = graph_from_module(Net(), [TensorSpec("x", (2, 3, 9, 9))], source="test", free_batch=False)
    assert shapes(fixed, batch=7)["output"].shape == (2, 2, 2)


def test_views_share_storage_and_results_do_not(graph: ModelGraph) -> None:
    values = shapes(graph)
    base, view, other = values["head"], values["view"], values["relu"]
    assert base.untyped_storage()._cdata == view.untyped_storage()._cdata != other.untyped_storage()._cdata


def test_training_mode_is_read_as_evaluation_and_nothing_moves(graph: ModelGraph) -> None:
    before = {name: tensor.clone() for name, tensor in graph.module.state_dict().items()}
    evaluated = shapes(graph)
    graph.module.train()
    trained = shapes(graph)
    assert {name: signature(value) for name, value in trained.items()} == {name: signature(value) for name, value in evaluated.items()}
    assert all(module.training for module in graph.module.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in graph.module.state_dict().items())


def test_a_misfit_is_named_in_one_line(graph: ModelGraph) -> None:
    head = graph.module.get_submodule("head")
    head.weight = nn.Parameter(head.weight[:, :5].detach())
    with pytest.raises(InputError, match=r"^node 'head' \(head\) does not fit its inputs: [^\n]+$"):
        shapes(graph)


def test_a_shape_that_hangs_on_values_is_named() -> None:
    nodes = fx.Graph()
    nodes.output(nodes.call_function(torch.ops.aten.item.default, (nodes.placeholder("x"),)))
    with pytest.raises(InputError, match="node 'item_default'"):
        propagate(fx.GraphModule({}, nodes), [torch.ones(1)])


def test_tensors_flattens_nested_results(graph: ModelGraph) -> None:
    values = shapes(graph)
    assert [tensor.shape for tensor in tensors(values["chunk"])] == [(1, 4, 4, 4)] * 2
    assert tensors(5) == []
