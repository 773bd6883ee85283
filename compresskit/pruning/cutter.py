"""One step of the engine: what matters is scored, a cut is planned and made, what stays takes over from what goes, and ranks fall last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from torch import Tensor

from compresskit.errors import TargetError
from compresskit.models.graph import ModelGraph
from compresskit.progress import Progress
from compresskit.pruning.at_init import narrowest, reinit, rescale
from compresskit.pruning.blocks import open_blocks
from compresskit.pruning.compensation import compensate
from compresskit.pruning.config import PruneConfig
from compresskit.pruning.footprint import Cost
from compresskit.pruning.goal import Goal
from compresskit.pruning.groups import Prunable
from compresskit.pruning.lowrank import lower_ranks, lowered, paying
from compresskit.pruning.recovery import Recovery
from compresskit.pruning.scoring import Scored, Scorer
from compresskit.pruning.step import Cut, Layout, cut_to, cut_to_measure, floored
from compresskit.pruning.target import CLOSE

MULTIPLES = (8, 4, 2, 1)  # of channels, in the order in which they are tried: ONNX Runtime computes in blocks of 8 or 16
LATENCY_MULTIPLES = (8, 4)  # at widths between these, latency is no longer what a table of operators predicts
LEARNED_MULTIPLES = (2, 1)  # coarser ones undo what was learned: a stream of 16 channels that is to keep 11 would keep all
RANK_MULTIPLES = (2, 1)  # likewise: a layer of 16 channels would have rank 8 or stay whole
RANKS = "lowrank"
SHARES = (0.5, 0.25)  # of the way to the target, by factors, that ranks go where widths went the rest; the next where they cannot go so far


@dataclass(frozen=True)
class Cutter:
    """Makes the cuts of one run.

    Attributes:
        score: what decides between channels.
        widths: of every group before the first step, by name; filled in at that step.
    """

    config: PruneConfig
    goal: Goal
    score: Scorer
    recovery: Recovery | None
    progress: Progress
    widths: dict[str, int] = field(default_factory=dict)

    def __call__(self, graph: ModelGraph, limit: float) -> Cut:
        """Cut `graph` so that its cost comes to `limit`.

        Ranks that were learned fall along with the widths that were learned beside them; a criterion's fall after its widths.

        Raises:
            TargetError: nothing can be cut.
        """
        if self.config.learns or RANKS not in self.config.blocks:
            return self._cut(graph, limit, self.config.blocks)
        widths = [name for name in self.config.blocks if name != RANKS]
        whole = Cut(graph, np.zeros(0, dtype=bool), (), self.goal.whole, self.goal.whole)
        return self._in_turn(graph, whole, limit, widths) if widths else self._lowered(whole)

    def _in_turn(self, graph: ModelGraph, whole: Cut, limit: float, widths: Sequence[str]) -> Cut:
        """Widths first and then ranks: in the first share that brings `limit` within reach, else in that which comes nearest.

        Ranks may all stay: thin layers take ONNX Runtime no less time than one.
        """
        tried: list[Cut] = []
        for share in SHARES:
            try:
                narrowed = self._cut(graph, self.goal.whole * (limit / self.goal.whole) ** (1 - share), widths)
            except TargetError:  # no width can fall: ranks go the whole way
                return self._lowered(whole)
            tried.append(self._lowered(narrowed))
            if tried[-1].least <= limit * (1 + CLOSE):
                return tried[-1]
        alone = self._cut(graph, limit, widths)
        best = min((*tried, alone), key=lambda made: abs(made.reached - limit))
        return replace(best, notes=(*best.notes, "all ranks stay: widths alone come nearer to the target")) if best is alone else best

    def _lowered(self, made: Cut) -> Cut:
        """`made`, with ranks that go the rest of the way."""
        multiples = RANK_MULTIPLES if self.goal.table is None else LATENCY_MULTIPLES
        return lower_ranks(made, self.goal, self._layout(multiples), self.recovery, self.progress)

    def _cut(self, graph: ModelGraph, limit: float, blocks: Sequence[str]) -> Cut:
        prunable = open_blocks(graph, blocks)
        cost = self.goal.cost(prunable)
        scored = self.score(prunable, cost, limit)
        make = partial(cut_to, prunable, self._floored(prunable, scored), cost, self._layout(self._multiples()))
        if self.goal.measurable and limit == self.goal.limit:
            made = cut_to_measure(make, self.goal, self.progress, shape=partial(_shape, prunable, cost))
        else:
            made = make(limit)
        lone = (f"{name} is down to its last channel" for name in narrowest(prunable, made.keep))
        return self._mended(prunable, cost, replace(made, notes=(*scored.notes, *lone)))

    def _mended(self, prunable: Prunable, cost: Cost, made: Cut) -> Cut:
        """`made`, with weights that make up for what is gone; of a fresh model, scaled or drawn anew where that was asked for."""
        if self.config.init:
            scaled = rescale(prunable.graph, made.graph) if self.config.rescale else made.graph
            return replace(made, graph=reinit(scaled, self.config.seed) if self.config.reinit else scaled)
        if self.recovery is not None:
            compensate(prunable.graph, prunable.coupling, made.keep, made.graph, self.recovery.calibration())
        ranks = paying(prunable, cost, made.keep)
        return lowered(made, ranks, self.recovery) if ranks else made

    def _floored(self, prunable: Prunable, scored: Scored) -> list[Tensor]:
        """The scores, with those out of reach that the floor keeps."""
        pairs = zip(prunable.groups, scored.scores, strict=True)
        return [floored(found, self.config.floor or 0.0, self.widths.setdefault(group.name, group.size)) for group, found in pairs]

    def _layout(self, multiples: tuple[int, ...]) -> Layout:
        """Of what a run leaves: `multiples` of channels or directions, where none was asked for."""
        asked = self.config.round_to
        return Layout(self.config.scope or "global", self.config.floor or 0.0, multiples if asked is None else (asked,))

    def _multiples(self) -> tuple[int, ...]:
        if self.goal.table is not None:
            return LATENCY_MULTIPLES
        return LEARNED_MULTIPLES if self.config.learns else MULTIPLES


def _shape(prunable: Prunable, cost: Cost, made: Cut) -> ModelGraph:
    """`made`, with its layers factorized as they will be."""
    ranks = paying(prunable, cost, made.keep)
    return lowered(made, ranks, None).graph if ranks else made.graph
