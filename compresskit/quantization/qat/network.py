"""A network in torch whose tensors keep their ONNX names, with something of ours before each weight and behind each activation.

    Network ──read──► steps ──┐
    Plan ──► who is rounded ──┼──► TrainableNetwork:  weight ─► module ─┐
    modules by tensor name ───┘                       x ─► module ─► Conv ─► Relu ─► module ─► ...

Modules stand where `emit` puts QuantizeLinear and DequantizeLinear. Where integers are made, all readers get the rounded tensor; where floats
are, only the nodes that run in integers do. Nodes that only move values have nothing behind them: what they make is on the grid already.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import InputError
from compresskit.models.graph import random_inputs
from compresskit.models.onnx_batch import rebatched
from compresskit.models.onnx_ops.linear import LINEAR
from compresskit.models.onnx_ops.values import Value, tensor
from compresskit.models.onnx_parse import read_initializers, read_inputs, read_nodes
from compresskit.models.onnx_plan import Argument, Ref, Step, Weight, call, naming
from compresskit.models.onnx_plan import plan as plan_steps
from compresskit.quantization.layers import Layer
from compresskit.quantization.network import Network
from compresskit.quantization.plan import MOVING, Plan
from compresskit.quantization.quantizers import FakeQuant

NOTHING: Mapping[str, nn.Module] = {}


def trainable(
    network: Network,
    plan: Plan,
    weights: Mapping[str, nn.Module] = NOTHING,
    activations: Mapping[str, nn.Module] = NOTHING,
    *,
    input_shape: tuple[int, ...] | None = None,
    source: str = "the model",
) -> TrainableNetwork:
    """A network to train. The layers' weights and biases are its parameters; everything else stays as it is.

    Args:
        network: prepared.
        weights: what stands before stored weights, by their names; weights without an entry stay as they are.
        activations: what stands behind activations, by the first tensor of each of the plan's sets; likewise.
        input_shape: sizes of the input behind its batch axis, where the file leaves them open.

    Raises:
        InputError: an operator that torch cannot run here, a node that cannot be read exactly, or a batch that the file fixes and that samples
            do not share alike.
    """
    module = TrainableNetwork(network, plan, weights, activations, input_shape, source)
    if network.fixed_batch is not None:
        _check_batch(module)
    return module


class TrainableNetwork(nn.Module):
    """See `trainable`. Takes and gives what the ONNX model takes and gives, at any batch.

    Attributes:
        network, plan: that it was made from.
        inputs: what it takes.
        weight_modules, activation_modules: as given, by the same names.
    """

    def __init__(
        self,
        network: Network,
        plan: Plan,
        weights: Mapping[str, nn.Module],
        activations: Mapping[str, nn.Module],
        input_shape: tuple[int, ...] | None,
        source: str,
    ) -> None:
        super().__init__()
        self.network, self.plan, self.source = network, plan, source
        model = network.to_model()
        inputs = read_inputs(model, source, input_shape)
        # Naming the tensors as outputs keeps them: nothing is merged across them.
        wanted = list(dict.fromkeys((*network.outputs, *plan.tensors, *(layer.output for layer in plan.layers))))
        planned = plan_steps(read_nodes(model, source), read_initializers(model, source), inputs, wanted, source)
        self.inputs = inputs
        self._baked = inputs[0].sized(1)[0]
        self._results = planned.results[: len(network.outputs)]
        self._layers = {layer.output: layer for layer in plan.layers}
        self._steps = _with_ends(planned.steps, self._results)
        integer = [step.node for step in self._steps if step.node.outputs[0] in plan.integer]
        self._stems = {name: members[0] for members in plan.sets for name in members if members[0] in activations}
        self._made = {plan.result(name) for node in integer for name in node.outputs}
        self._moved = {name for node in integer if node.op in MOVING for name in node.outputs}
        self.weight_modules = nn.ModuleDict({_key(name): module for name, module in weights.items()})
        self.activation_modules = nn.ModuleDict({_key(name): module for name, module in activations.items()})
        stored = {name for layer in plan.layers for name in (layer.weight, layer.bias) if name is not None}
        self._learned = nn.ParameterDict({_key(name): nn.Parameter(torch.tensor(network.constants[name])) for name in sorted(stored)})
        others = [step.arguments for step in self._steps if step.node.outputs[0] not in self._layers]
        for path in sorted({one.path for arguments in (*others, self._results) for one in arguments if isinstance(one, Weight)}):
            self.register_buffer(_key(path), planned.weights[path].detach().clone())

    def parameter(self, name: str) -> nn.Parameter:
        """The parameter that is the stored tensor `name`."""
        return self._learned[_key(name)]

    def weight_module(self, name: str) -> nn.Module | None:
        """What stands before the stored weights `name`."""
        return getattr(self.weight_modules, _key(name), None)

    def activation_module(self, name: str) -> nn.Module | None:
        """What stands behind the activation `name`: that of its set."""
        return self.activation_modules[_key(self._stems[name])] if name in self._stems else None

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        values: dict[str, Value] = {}
        rounded: dict[str, Value] = {}
        for spec, value in zip(self.inputs, inputs, strict=True):
            values[spec.name] = value
            self._round(spec.name, values, rounded)
        for step in self._steps:
            node = step.node
            given = ChainMap(rounded, values) if node.outputs[0] in self.plan.integer else values
            arguments = [self._value(argument, given) for argument in step.arguments]
            if node.outputs[0] in self._layers:
                arguments = [arguments[0], *self._stored(self._layers[node.outputs[0]], node.op == LINEAR)]
            with naming(node, self.source):
                arguments = rebatched(step, arguments, self._baked, inputs[0].shape[0])
            for name, result in zip(node.outputs, call(node, arguments, self.source), strict=False):
                values[name] = result
                self._round(name, values, rounded)
            for name in step.dead:
                values.pop(name, None)
                rounded.pop(name, None)
        results = tuple(tensor(value) for result in self._results if (value := self._value(result, values)) is not None)
        return results[0] if len(results) == 1 else results

    def _round(self, name: str, values: dict[str, Value], rounded: dict[str, Value]) -> None:
        """Pass the new tensor `name` through the module behind it."""
        module = self.activation_module(name)
        if module is None or name in self._moved:
            return
        (values if name in self._made else rounded)[name] = module(values[name])

    def _stored(self, layer: Layer, linear: bool) -> list[Any]:
        """Weight and bias of a layer, as its operator takes them."""
        module, weight = self.weight_module(layer.weight), self.parameter(layer.weight)
        value: Tensor = weight if module is None else module(weight)
        value = value.t() if linear and layer.axis == 1 else value
        return [value] if layer.bias is None else [value, self._bias(layer, layer.bias)]

    def _bias(self, layer: Layer, name: str) -> Tensor:
        """A bias, rounded to the steps of the products that it is added to: with few bits they are coarse."""
        bias, read, weight = self.parameter(name), self.activation_module(layer.input), self.weight_module(layer.weight)
        if not (isinstance(read, FakeQuant) and isinstance(weight, FakeQuant)):
            return bias
        step = (read.steps().detach().double() * weight.steps().detach().double()).float()
        return bias + ((bias.detach().double() / step).round() * step - bias.detach()).float()

    def _value(self, argument: Argument, values: Mapping[str, Value]) -> Any:
        if isinstance(argument, Ref):
            return values[argument.name]
        if isinstance(argument, Weight):
            return getattr(self, _key(argument.path), None)
        return argument


@torch.no_grad()
def _check_batch(module: TrainableNetwork) -> None:
    """See that several of the file's batches at once give what they give one by one.

    Raises:
        InputError: they do not.
    """
    size = module.inputs[0].sized(1)[0]
    samples = random_inputs(module.inputs, 3 * size, free_batch=True)
    pieces = [tuple(sample[start : start + size] for sample in samples) for start in range(0, 3 * size, size)]
    try:
        together, *alone = (_flat(module(*given)) for given in (samples, *pieces))
        agree = torch.allclose(torch.cat(together, 1), torch.cat([torch.cat(one, 1) for one in alone]), rtol=1e-4, atol=1e-4)
    except (InputError, RuntimeError):
        agree = False
    if not agree:
        raise InputError(f"{module.source} fixes its batch at {size}, and cannot be trained at another: export it with an open batch")


def _flat(outputs: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    """Outputs as one row a sample each."""
    return [output.flatten(1) for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


def _with_ends(steps: Sequence[Step], results: Sequence[Argument]) -> tuple[Step, ...]:
    """The steps, each with the values that nothing needs after it."""
    needed = {result.name for result in results if isinstance(result, Ref)}
    found = []
    for step in reversed(steps):
        used = {argument.name for argument in step.arguments if isinstance(argument, Ref)} | set(step.node.outputs) - {""}
        found.append(replace(step, dead=tuple(sorted(used - needed))))
        needed |= used
    return tuple(reversed(found))


def _key(name: str) -> str:
    """A tensor's name as torch takes names: without dots, and unlike any attribute."""
    return "=" + name.replace("%", "%25").replace(".", "%2E")
