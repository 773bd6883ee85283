"""Files that run code when they are loaded. Nothing here is reached without `--trust`."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn

from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.sniff import Kind
from compresskit.wording import first_line


def unpickle(data: bytes, kind: Kind) -> Any:
    """The object in a pickle, by running it.

    Raises:
        InputError: it cannot be loaded.
    """
    if kind is Kind.RAW_PICKLE:
        return _run(lambda: pickle.loads(data), kind)  # noqa: S301 (the user trusts this file)
    return _run(lambda: torch.load(io.BytesIO(data), map_location="cpu", weights_only=False), kind)


def read_pt2(data: bytes, source: str) -> ModelGraph:
    """The program in a torch.export archive. Its own input shapes are kept.

    Raises:
        InputError: it cannot be loaded or lifted.
    """
    program = _run(lambda: torch.export.load(io.BytesIO(data)), Kind.PT2)
    names = set(program.graph_signature.user_inputs)
    values = [(node.name, node.meta["val"]) for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    inputs = tuple(TensorSpec(name, tuple(size if isinstance(size, int) else None for size in value.shape), value.dtype) for name, value in values)
    return graph_from_module(_plain(program), inputs, source=source)


def read_torchscript(data: bytes, inputs: Sequence[TensorSpec] | None, source: str) -> ModelGraph:
    """The module in a TorchScript archive, through PyTorch's own TorchScript-to-export converter.

    Raises:
        UsageError: `inputs` is None: TorchScript does not say what it takes.
        InputError: it cannot be loaded, converted or lifted.
    """
    if inputs is None:
        raise UsageError(f"{source}: a TorchScript archive does not say its input: give --input, such as --input 3,32,32")
    script = _run(lambda: torch.jit.load(io.BytesIO(data), map_location="cpu"), Kind.TORCHSCRIPT).eval()
    example = tuple(torch.zeros(spec.sized(2), dtype=spec.dtype) for spec in inputs)
    module = _run(lambda: _plain(_convert(script, example)), Kind.TORCHSCRIPT)
    for name, parameter in script.named_parameters():  # the converter makes buffers of them all
        parent, _, key = name.rpartition(".")
        owner = module.get_submodule(parent)
        if owner._buffers.pop(key, None) is not None:
            owner.register_parameter(key, nn.Parameter(parameter.detach()))
    return graph_from_module(module, inputs, source=source)


def _convert(script: Any, example: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram:
    from torch._export.converter import TS2EPConverter  # private, and slow to import

    return TS2EPConverter(script, example).convert()


def _plain(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """The program as a module that can be exported again: the one that torch makes refuses `eval`."""
    module = program.module(check_guards=False)
    return fx.GraphModule(module, module.graph)


def _run(load: Callable[[], Any], kind: Kind) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load()
    except CompresskitError:
        raise
    except Exception as error:  # the file's own code may raise anything
        raise InputError(f"{kind.value} that cannot be loaded: {first_line(error)}") from error
