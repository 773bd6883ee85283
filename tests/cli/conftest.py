"""A replaced console to run commands with, and a report for them to print."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from compresskit.cli.app import main
from compresskit.cli.console import Console
from compresskit.codec.reports import (
    DecodeOutcome,
    DecodeReport,
    Distortion,
    EncodeOutcome,
    EncodeReport,
    ItemReport,
    StreamInfo,
    TrainBaseReport,
)
from compresskit.progress import SILENT, Progress
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

    outcome: Any
    error: BaseException | None = None
    request: Any = None

    def __call__(self, request: Any, progress: Progress = SILENT) -> Any:
        self.request = request
        progress.stage("training", 10)
        progress.advance(5, loss=0.25)
        progress.note("a detail")
        if self.error is not None:
            raise self.error
        return self.outcome

    @property
    def asked(self) -> Any:
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


@pytest.fixture
def stream() -> StreamInfo:
    """A stream of two scans."""
    scan = ItemReport("scan.nii", "volume", "nii", "<i2", (1, 91, 109, 91, 1), Distortion(38.254, 255.0, 3.1, 21.5))
    series = ItemReport("bold.nii.gz", "volume", "nii.gz", "<f4", (7, 16, 16, 8, 1), Distortion(None, 1.0, 0.0, 0.0))
    return StreamInfo(
        method="coin++",
        guard="none",
        tolerance=0.0,
        bits=5,
        patch=(16, 16, 16),
        base="volume",
        base_bytes=310_000,
        items=(scan, series),
        sections={"header": 30, "items": 400, "chunks": 9_570},
        bytes=10_000,
        points=916_965,
        bpp=0.08724,
        bpp_with_base=2.7918,
    )


@pytest.fixture
def encode_report(stream: StreamInfo) -> EncodeReport:
    """What encoding `stream` said."""
    return EncodeReport(
        command="encode",
        arguments=("encode", "scan.nii", "bold.nii.gz", "-o", "set.coinpp"),
        versions={"python": "3.11.7", "compresskit": "0.1.0"},
        seed=0,
        threads=2,
        settings={"quality": 5},
        stream=stream,
        input_bytes=902_981,
        deflate_bytes=400_000,
        ratio=90.2981,
        verified=True,
        stages={"read": 0.5, "fit": 12.25},
        warnings=("one thing to know",),
        outputs=(Output("set.coinpp", "coinpp", 10_000),),
    )


@pytest.fixture
def decode_report(encode_report: EncodeReport) -> DecodeReport:
    """What decoding it again said."""
    bare = tuple(dataclasses.replace(item, distortion=None) for item in encode_report.stream.items)
    return DecodeReport(
        command="decode",
        arguments=("decode", "set.coinpp", "-o", "out/"),
        versions=encode_report.versions,
        seed=None,
        threads=2,
        settings={"scale": 1},
        stream=dataclasses.replace(encode_report.stream, items=bare),
        verified=True,
        stages={"decode": 1.25},
        warnings=("one thing to know",),
        outputs=(Output("out/scan.nii", "nii", 902_629), Output("out/bold.nii.gz", "nii.gz", 352)),
    )


@pytest.fixture
def training_report() -> TrainBaseReport:
    """What the training of a base network said."""
    return TrainBaseReport(
        command="encode",
        arguments=("encode", "--train-base", "scans/", "--modality", "volume", "-o", "brain.base.safetensors"),
        versions={"python": "3.11.7", "compresskit": "0.1.0"},
        seed=0,
        threads=2,
        settings={"width": 64},
        curve=tuple((float(step), 20 + step / 1000) for step in range(100, 2600, 100)),
        psnr=22.25,
        stages={"train base": 61.5},
        outputs=(Output("brain.base.safetensors", "safetensors", 310_000),),
    )


@pytest.fixture
def encoder(encode_report: EncodeReport, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The library's encoder replaced."""
    stand_in = Pipeline(EncodeOutcome(encode_report))
    monkeypatch.setattr("compresskit.codec.pipeline.encode", stand_in)
    return stand_in


@pytest.fixture
def decoder(decode_report: DecodeReport, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The library's decoder replaced."""
    stand_in = Pipeline(DecodeOutcome(decode_report))
    monkeypatch.setattr("compresskit.codec.decoding.decode", stand_in)
    return stand_in


@pytest.fixture
def trainer(training_report: TrainBaseReport, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The library's training of base networks replaced."""
    stand_in = Pipeline(training_report)
    monkeypatch.setattr("compresskit.codec.training.train_base", stand_in)
    return stand_in
