"""Does ONNX Runtime compute what the quantized model says? Node by node, its integers against the reference of `simulate`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from compresskit.errors import GuardError
from compresskit.models.isolated import Child, IsolatedSession
from compresskit.models.sessions import Feeds
from compresskit.quantization.calibrate import watching
from compresskit.quantization.network import Network
from compresskit.quantization.simulate import expected, find_sites
from compresskit.wording import shown

LEAST_EQUAL = 0.999


@dataclass(frozen=True)
class Integrity:
    """How ONNX Runtime's integers compare with the reference, each node fed with the integers that ONNX Runtime fed it.

    Attributes:
        nodes: compared.
        integers: compared.
        equal: the fraction that is equal.
        worst: the largest difference, in steps.
    """

    nodes: int
    integers: int
    equal: float
    worst: int


def check_integers(model: onnx.ModelProto, feeds: Feeds, *, threads: int = 1, child: Child | None = None) -> Integrity:
    """Compare on one batch.

    Raises:
        GuardError: less than 99.9% of the integers are equal, or one is off by more than a step.
        InputError: ONNX Runtime cannot run the model.
    """
    network = Network.of(model)
    sites = find_sites(network)
    watched = {name: network.constants[node.input[2]].dtype for node in network.nodes for name in node.output if node.op_type == "QuantizeLinear"}
    padded = {node.output[0]: np.dtype(np.uint8) for node in network.nodes if node.op_type == "Pad" and node.input[0] in watched}
    integers = _run(model, {**watched, **padded}, feeds, threads, child)
    compared = same = worst = nodes = 0
    for site in sites:
        difference = np.abs(expected(network, site, integers) - integers[site.result[0]])
        nodes, compared = nodes + 1, compared + difference.size
        same += int((difference == 0).sum())
        worst = max(worst, int(difference.max(initial=0)))
        if worst > 1:
            raise GuardError(f"ONNX Runtime's {site.node.op_type} {shown(site.node.name)!r} is off by {worst} steps: its integers cannot be trusted")
    equal = same / compared if compared else 1.0
    if equal < LEAST_EQUAL:
        raise GuardError(
            f"only {equal:.2%} of ONNX Runtime's integers are what the model says, {LEAST_EQUAL:.1%} were expected: it is not to be trusted"
        )
    return Integrity(nodes, compared, equal, worst)


def _run(model: onnx.ModelProto, kinds: dict[str, np.dtype], feeds: Feeds, threads: int, child: Child | None) -> dict[str, np.ndarray]:
    """ONNX Runtime's integer tensors, by name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name, dtype in kinds.items():
        copy = watching(copy, [name], helper.np_dtype_to_tensor_dtype(dtype))
    with IsolatedSession(copy.SerializeToString(), threads=threads, child=child) as session:
        values = session.run(feeds)[-len(kinds) :] if kinds else []
    return dict(zip(kinds, values, strict=True))
