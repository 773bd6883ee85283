"""What the zoo's architectures are for: they are lifted, cut to half of their MACs, written as ONNX and read again.

One network a pattern: groups, squeeze-and-excitation, trees joined by concatenation, hard-swish, upsampling. All the others, which take
long to export, are the business of `tests/benchmarks/zoo_and_onnx.py`.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.onnx_in import import_onnx
from compresskit.models.onnx_out import export_onnx
from compresskit.models.parity import check_parity
from compresskit.models.zoo import ARCHITECTURES, build
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.cut import cut, zeroed
from compresskit.pruning.engine import prune
from compresskit.pruning.groups import find_groups
from compresskit.training import recalibrate_batchnorm

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = ["senet18", "regnetx_200mf", "simple_dla", "mobilenet_v3_small", "unet"]
WIDTH, SIZE = 0.25, 16
HALF = PruneConfig(target=Target("flops", 0.5), epochs=0)
OUTPUT = "it is an output of the model"
WHOLE = {
    "norm takes its mean and variance over these channels",
    "add combines it with values that cannot be cut",
    "words: a vocabulary is not cut",
}
STREAM = {"words", "positions", *(f"layers.{index}.{part}" for index in (0, 1) for part in ("attention.output", "mlp.fc2"))}


def images_net(name: str) -> ModelGraph:
    """A network whose norms know its activations, so that its results depend on its inputs."""
    torch.manual_seed(0)
    module = build(name, width=WIDTH).eval()
    images = torch.randn(8, 3, SIZE, SIZE)
    recalibrate_batchnorm(module, [(images, images)])
    return graph_from_module(module, [TensorSpec("input", (None, 3, SIZE, SIZE))], source=name)


def check_files(graph: ModelGraph, *inputs: torch.Tensor) -> None:
    """The ONNX file computes what the graph does, in ONNX Runtime and read again."""
    proto = export_onnx(graph)
    assert check_parity(graph, proto.SerializeToString(), inputs=4).max_ratio <= 1
    with torch.no_grad():
        torch.testing.assert_close(import_onnx(proto, source="again").module(*inputs), graph.module(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", IMAGES)
def test_half_of_the_macs_are_cut_and_the_rest_survives_onnx(name: str) -> None:
    graph = images_net(name)
    result = prune(graph, None, HALF)
    assert result.met
    assert [skipped.reason for skipped in result.skipped] == [OUTPUT]
    one, two = (result.graph.example(2, seed=seed) for seed in (1, 2))
    with torch.no_grad():
        assert not torch.allclose(result.graph.module(*one), result.graph.module(*two)), "equality of dead networks proves nothing"
    check_files(result.graph, *one)


@pytest.fixture(scope="module")
def bert() -> ModelGraph:
    torch.manual_seed(0)
    module = build("bert", width=0.5, vocabulary=50, tokens=8)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return graph_from_module(module, [TensorSpec("input", (None, 8), ARCHITECTURES["bert"].dtype)], source="bert")


def texts(count: int) -> torch.Tensor:
    """Ids with padding behind some."""
    lengths = torch.arange(count) % 8 + 1
    return torch.where(torch.arange(8) < lengths[:, None], torch.randint(1, 50, (count, 8), generator=torch.Generator().manual_seed(0)), 0)


def test_bert_loses_heads_and_perceptrons_but_no_channel_that_a_layer_norm_sees(bert: ModelGraph) -> None:
    result = prune(bert, None, HALF)
    assert result.met
    reasons = {skipped.group: skipped.reason for skipped in result.skipped}
    assert reasons.pop("classifier") == OUTPUT
    assert reasons.keys() == STREAM
    assert set(reasons.values()) == WHOLE
    for layer in ("layers.0", "layers.1"):
        queries, values = (result.graph.module.get_parameter(f"{layer}.attention.{part}.weight").shape for part in ("query", "value"))
        assert queries == values
        assert queries[0] % 16 == 0
        assert queries[1] == 64
    check_files(result.graph, texts(6))


def test_bert_cut_is_bert_zeroed_on_real_texts(bert: ModelGraph) -> None:
    prunable = find_groups(bert)
    keep = torch.rand(prunable.coupling.classes, generator=torch.Generator().manual_seed(1)).numpy() > 0.5
    allowed = [label for classes in prunable.classes for label in classes[1:].tolist()]
    keep[[label for label in range(len(keep)) if label not in set(allowed)]] = True
    smaller, reference = (function(prunable.graph, prunable.coupling, keep) for function in (cut, zeroed))
    assert total(smaller).macs < total(bert).macs
    with torch.no_grad():
        torch.testing.assert_close(smaller.module.eval()(texts(16)), reference.module.eval()(texts(16)), rtol=1e-4, atol=1e-5)
