"""What a metanetwork is worth: how far the network that it makes can be cut, once that was trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from compresskit.data import Dataset
from compresskit.metaprune.config import MetatrainConfig
from compresskit.metaprune.curve import pruning_curve
from compresskit.metaprune.network import Metanetwork
from compresskit.metaprune.reports import CurvePoint
from compresskit.metaprune.rewriting import rewritten
from compresskit.models.graph import ModelGraph
from compresskit.progress import SILENT, Progress
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.recovery import Recovery


@dataclass(frozen=True)
class Judge:
    """A network to try metanetworks on, and data: weights are fitted to the training samples, curves are of the validation samples."""

    graph: ModelGraph
    data: Dataset
    config: MetatrainConfig
    device: torch.device
    progress: Progress = SILENT

    def curve(self, metanetwork: Metanetwork | None) -> tuple[CurvePoint, ...]:
        """The curve of the network as `metanetwork` makes it; None: as it is.

        Raises:
            GuardError: training diverged.
        """
        graph, config = self.graph, self._pruning()
        if metanetwork is not None:
            recovery = Recovery(graph, self.data, config, self.device, None, self.progress)
            graph, _ = rewritten(graph, metanetwork)
            recovery.renew_norms(graph)
            recovery.train(graph, phase=0, phases=1)
        return pruning_curve(graph, self.data, config, device=self.device, progress=self.progress)

    def _pruning(self) -> PruneConfig:
        """How the networks will be pruned; the target plays no part in a curve."""
        criterion = "l1" if self.config.criterion == "weights" else self.config.criterion
        return PruneConfig(
            target=Target("flops", 0.5),
            criterion=criterion,
            normalize=self.config.normalize,
            scope="global",
            epochs=self.config.tuning,
            seed=self.config.seed,
        )
