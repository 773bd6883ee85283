"""Masks on single weights, `W * A` (L1/L2 surrogates, table 1), learned to a sparsity: anywhere in a weight, or N of every M neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from compresskit.pruning.config import parse_pattern
from compresskit.pruning.recovery import Recovery
from compresskit.pruning.sparsity import find_masks, input_dim, parted
from compresskit.pruning.surrogate.control import Control
from compresskit.pruning.surrogate.cost import WeightCount
from compresskit.pruning.surrogate.learn import POINTS, TRAVEL, path_of, starting
from compresskit.pruning.surrogate.masks import MaskedNetwork, parameter_groups
from compresskit.pruning.surrogate.norms import NORMS
from compresskit.report import SearchPoint
from compresskit.training.state import EpochRecord


@dataclass(frozen=True)
class LearnedWeights:
    """What the masks say.

    Attributes:
        module: trained along with them, its weights multiplied with the masks.
        masks: which weights stay, by name: bool, of their shapes.
        history: of the training.
        path: of lambda and of the number of weights.
    """

    module: fx.GraphModule
    masks: dict[str, Tensor]
    history: tuple[EpochRecord, ...]
    path: tuple[SearchPoint, ...]


class MaskedWeights(MaskedNetwork):
    """A network with a mask on every entry of some weights; until one of them changes, it computes what the network does."""

    def __init__(self, module: fx.GraphModule, names: tuple[str, ...], start: Tensor, log: Tensor) -> None:
        super().__init__(module, start, log)
        self._names = names
        self.fold(1 / self.mask)

    def weights(self, mask: Tensor) -> dict[str, Tensor]:
        """Every weight that has a mask, multiplied with it."""
        weights = {name: self.network.get_parameter(name) for name in self._names}
        return {name: weights[name] * part for name, part in parted(mask, weights).items()}

    @torch.no_grad()
    def fold(self, mask: Tensor) -> None:
        """Multiply `mask` into the weights, in place."""
        for name, weight in self.weights(mask).items():
            self.network.get_parameter(name).copy_(weight)


def learn_weights(module: fx.GraphModule, sparsity: float, pattern: str | None, recovery: Recovery) -> LearnedWeights:
    """Train a copy of `module` and masks on its weights until as many are alive as are to stay; masks begin in the order of magnitudes.

    Entries share a norm over a whole weight where zeros may be anywhere, and over M neighbours where N of them stay.

    Args:
        sparsity, pattern: as in `find_masks`.

    Raises:
        GuardError: training diverged.
        TargetError: there is nothing to make sparse.
    """
    weights = {name: module.get_parameter(name).detach() for name in find_masks(module, sparsity, pattern)}
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    stay, size = parse_pattern(pattern or "unstructured") or (1, None)
    steps, counted = recovery.search_steps(), WeightCount(torch.cat(list(_owners(module, weights, size))).to(recovery.device))
    rate = TRAVEL / steps
    masked = MaskedWeights(module, tuple(weights), starting(magnitudes), torch.zeros(min(POINTS, steps), 3))
    control = Control(masked, counted, NORMS["l1l2"], counted.whole * (1 - sparsity), torch.full_like(counted.sizes, stay), steps, rate)
    history = recovery.search(masked, parameter_groups(masked, rate), control)
    masks = find_masks(module, sparsity, pattern, parted(_scores(masked.mask.detach(), counted, magnitudes), weights))
    masked.fold(masked.mask)
    _revive(masked.network, weights, masks)
    return LearnedWeights(masked.network, masks, history, path_of(masked.log) if history else ())


@torch.no_grad()
def _revive(module: fx.GraphModule, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    """Give those that stay although their mask fell to zero, as the count has it, the weight that they had."""
    for name, weight in weights.items():
        trained = module.get_parameter(name)
        trained.copy_(torch.where(masks[name] & (trained == 0), weight, trained))


def _owners(module: fx.GraphModule, weights: Mapping[str, Tensor], size: int | None) -> Iterator[Tensor]:
    """The number of the block of every entry, weight by weight: (entries,). Blocks are `size` neighbours, or whole weights."""
    first = 0
    for name, weight in weights.items():
        if size is None:
            blocks = torch.zeros(weight.shape, dtype=torch.int64)
        else:
            dim = input_dim(module, name)
            shape = weight.movedim(dim, -1).unflatten(-1, (-1, size)).shape[:-1]
            blocks = torch.arange(shape.numel()).view(shape).repeat_interleave(size, dim=-1).movedim(-1, dim)
        yield first + blocks.flatten()
        first += int(blocks.max()) + 1


def _scores(mask: Tensor, counted: WeightCount, magnitudes: Tensor) -> Tensor:
    """(entries,) masks, above 1; below it the magnitude, where the mask is zero; above all others, the largest of every block."""
    last = mask == counted.largest(mask.to(counted.owner.device))[counted.owner].cpu()
    return torch.where(mask > 0, 1 + mask, magnitudes / (1 + magnitudes)) + 10 * last
