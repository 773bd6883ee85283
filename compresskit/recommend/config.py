"""What `recommend` is asked to do. Free of torch, so that the command line can build it before anything heavy loads."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from compresskit.errors import UsageError
from compresskit.recommend.constraints import Constraints
from compresskit.requests import CompressRequest, paths_of

MODEL_SUFFIXES = (".pt", ".safetensors", ".onnx")


@dataclass(frozen=True)
class RecommendConfig:
    """Settings of one recommendation.

    Attributes:
        constraints: what a setting has to meet.
        top: how many to show.
        verify: how many of them to carry out, and measure.
        apply: which one to carry out and write, from 1; None: none.
        budget: of the training of what is carried out.
        explain: say what drove the first one.
    """

    constraints: Constraints
    top: int = 5
    verify: int = 0
    apply: int | None = None
    budget: str = "full"
    explain: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"--top takes 1 or more, not {self.top}")
        if self.verify < 0:
            raise UsageError(f"--verify takes 0 or more, not {self.verify}")
        if self.apply is not None and self.apply < 1:
            raise UsageError(f"--apply takes best, or a place from 1 on, not {self.apply}")


@dataclass(frozen=True)
class RecommendRequest(CompressRequest):
    """One `compresskit recommend`: what `compresskit.recommend.pipeline.run` takes.

    Attributes:
        predictor: file of one; None: the shipped one.
        outputs: of what is applied: paths of .onnx files, or "-".
    """

    config: RecommendConfig
    outputs: tuple[str, ...] = ()
    predictor: str | None = None


@dataclass(frozen=True)
class TrainRequest:
    """One `compresskit recommend --train`: what `compresskit.recommend.sweep.run` takes.

    Attributes:
        models: folder of model files, trained.
        data: data sets, as `compresskit.data.load_data` reads them.
        output: file of the predictor; the table of trials goes to a folder beside it.
        trials: most new trials to do; None: all.
        jobs: processes at a time.
        cluster: address of a Dask scheduler; None: here.
    """

    models: str
    data: tuple[str, ...]
    output: str
    _: KW_ONLY
    budget: str = "small"
    trials: int | None = None
    jobs: int = 1
    cluster: str | None = None
    seed: int = 0
    trust: bool = False
    max_bytes: int | None = None
    force: bool = False
    arguments: tuple[str, ...] = ()

    def model_files(self) -> tuple[Path, ...]:
        """What trials are done on, in an order that does not depend on the file system."""
        return tuple(sorted(path for path in Path(self.models).glob("*") if path.suffix in MODEL_SUFFIXES))

    def files_read(self) -> tuple[Path, ...]:
        """The files and folders that are read, and so never written: the models, and those of the data."""
        return (*self.model_files(), *(path for one in self.data for path in paths_of(one)))


@dataclass(frozen=True)
class GenerateRequest:
    """One `compresskit recommend --generate`: what `compresskit.recommend.diffusion.pipeline.run` takes.

    Attributes:
        data: as `compresskit.data.load_data` reads it; its training split is imitated.
        count: of samples.
        output: an .npz file.
        input_shape: of a sample, for files of images; None: as the data have it.
        epochs: of the generator's training.
        plot: where to draw some samples of each class (.png), None for nowhere.
    """

    data: str
    count: int
    output: str
    _: KW_ONLY
    input_shape: tuple[int, ...] | None = None
    label_column: str | None = None
    epochs: float = 20.0
    plot: str | None = None
    checkpoint: str | None = None
    checkpoint_minutes: float = 5.0
    resume: bool = False
    threads: int | None = None
    seed: int = 0
    max_bytes: int | None = None
    force: bool = False
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.epochs < math.inf:
            raise UsageError(f"--epochs takes a number above 0, not {self.epochs:g}")
