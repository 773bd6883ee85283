"""A replaced console to run commands with, and a report for them to print."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from compresskit.cli.app import main
from compresskit.cli.console import Console
from compresskit.progress import SILENT, Progress
from compresskit.pruning.config import PruneRequest
from compresskit.pruning.pipeline import PruneOutcome
from compresskit.report import Accuracy, Latency, LayerRow, Measure, ModelInfo, ModelInput, Output, Parity, Report, Skipped, Target


class Stream(io.StringIO):
    """A text stream that says whether it is a terminal."""

    def __init__(self, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@dataclass(frozen=True)
class Done:
    """What a user saw: the exit code and both streams."""

    code: int
    out: str
    err: str


Invoke = Callable[..., Done]


@pytest.fixture
def invoke(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command line in this process, in an empty folder, with no configuration but what the test gives."""
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))

    def run(*arguments: str, stdin: bytes = b"", terminal: bool = False, environ: dict[str, str] | None = None) -> Done:
        out, err = Stream(terminal), Stream(terminal)
        console = Console(stdin=io.BytesIO(stdin), stdout=out, stderr=err, environ={"HOME": "/nonexistent", **(environ or {})})
        return Done(main(arguments, console), out.getvalue(), err.getvalue())

    return run


@dataclass
class Pipeline:
    """Stands in for the library: remembers what it was asked, and answers with `outcome` or raises `error`."""

    outcome: PruneOutcome
    error: BaseException | None = None
    request: PruneRequest | None = None

    def __call__(self, request: PruneRequest, progress: Progress = SILENT) -> PruneOutcome:
        self.request = request
        progress.stage("training", 10)
        progress.advance(5, loss=0.25)
        progress.note("a detail")
        if self.error is not None:
            raise self.error
        return self.outcome

    @property
    def asked(self) -> PruneRequest:
        assert self.request is not None, "the pipeline was not reached"
        return self.request


@pytest.fixture
def report() -> Report:
    """A report with something in every field."""
    before = Measure(
        macs=40_810_000,
        parameters=272_474,
        bytes=1_089_896,
        peak_activation_bytes=131_072,
        accuracy=Accuracy(0.9260, 0.9207, 0.9310, 10_000),
        latency=Latency(1.234, 1.5, threads=2, batch=1),
    )
    after = dataclasses.replace(
        before,
        macs=20_400_000,
        parameters=120_000,
        bytes=480_000,
        accuracy=Accuracy(0.9180, 0.9125, 0.9232, 10_000),
        latency=Latency(0.7, 0.9, threads=2, batch=1),
    )
    layers = tuple(LayerRow(f"layer{index}.conv", "conv", 16, 16 - index, 1_000_000, 1_000_000 - 50_000 * index) for index in range(12))
    return Report(
        command="prune",
        arguments=("prune", "m.onnx", "--flops", "0.5"),
        versions={"python": "3.11.7", "compresskit": "0.1.0"},
        seed=7,
        device="cpu",
        threads=2,
        model=ModelInfo("m.onnx", None, (ModelInput("x", (None, 3, 32, 32), "float32"),)),
        settings={"criterion": "l2", "steps": 1},
        target=Target("flops", 0.5, 0.4999),
        before=before,
        after=after,
        layers=layers,
        skipped=tuple(Skipped(f"group{index}", "its width is an output") for index in range(6)),
        parity=Parity(2.4e-7, 32),
        stages={"cut": 1.5, "train": 20.25},
        warnings=("one thing to know",),
        outputs=(Output("m.pruned.onnx", "onnx", 483_000),),
    )


@pytest.fixture
def pipeline(report: Report, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The library replaced, for tests of what the command asks it and does with the answer."""
    stand_in = Pipeline(PruneOutcome(report))
    monkeypatch.setattr("compresskit.pruning.pipeline.run", stand_in)
    return stand_in
