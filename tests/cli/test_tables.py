"""A report as a person reads it."""

from __future__ import annotations

import dataclasses
import io

import pytest

from compresskit.cli.console import Console
from compresskit.cli.tables import count, report_tables, size
from compresskit.report import Accuracy, Measure, Report, Target, Training


def _rendered(report: Report, verbose: bool = False) -> str:
    console = Console(stdin=io.BytesIO(), stdout=io.StringIO(), stderr=io.StringIO(), environ={})
    console.show(*report_tables(report, verbose=verbose))
    assert isinstance(console.stdout, io.StringIO)
    return "\n".join(line.rstrip() for line in console.stdout.getvalue().splitlines()) + "\n"


def test_the_whole_of_it(report: Report) -> None:
    assert _rendered(report) == EXPECTED


EXPECTED = """\
                                   before                   after       kept
────────────────────────────────────────────────────────────────────────────
MACs                               40.81M                   20.4M      50.0%
parameters                         272.5k                    120k      44.0%
weights                           1.09 MB                  480 kB      44.0%
peak activations                 131.1 kB                131.1 kB     100.0%
accuracy            92.60% [92.07, 93.10]   91.80% [91.25, 92.32]   -0.80 pt
latency p50 / p90           1.23 / 1.5 ms            0.7 / 0.9 ms      56.7%

layer           kind     width        MACs    kept
──────────────────────────────────────────────────
layer1.conv     conv   16 → 15   1M → 950k   95.0%
layer2.conv     conv   16 → 14   1M → 900k   90.0%
layer3.conv     conv   16 → 13   1M → 850k   85.0%
layer4.conv     conv   16 → 12   1M → 800k   80.0%
layer5.conv     conv   16 → 11   1M → 750k   75.0%
layer6.conv     conv   16 → 10   1M → 700k   70.0%
layer7.conv     conv    16 → 9   1M → 650k   65.0%
layer8.conv     conv    16 → 8   1M → 600k   60.0%
… 3 more (-v)

left whole: 6 groups
  group0: its width is an output
  group1: its width is an output
  group2: its width is an output
  group3: its width is an output
  group4: its width is an output
  … 1 more (-v)
accuracy: top-1 of 10,000 test samples, with its 95% interval
latency: ONNX Runtime, batch 1, 2 threads
target: --flops 0.5, reached 0.4999
checked in ONNX Runtime: largest difference 2.4e-07 over 32 inputs
wrote m.pruned.onnx (onnx, 483 kB)
seed 7, cpu, 2 threads, 21.8 s
"""


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (999, "999"), (1000, "1k"), (40_810_000, "40.81M"), (1.25e9, "1.25G")])
def test_count(value: float, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0 B"), (999, "999 B"), (1_089_896, "1.09 MB"), (2_000, "2 kB"), (3 * 10**9, "3 GB")])
def test_size(value: int, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (Target("flops", 0.5, 0.4999), "target: --flops 0.5, reached 0.4999"),
        (Target("flops", 30e6, 29_950_000, "MACs"), "target: --flops 30M MACs, reached 29.95M MACs"),
        (Target("size", 1.5e6, 1_490_000, "bytes"), "target: --size 1.5 MB, reached 1.49 MB"),
        (Target("sparsity", 0.9, 0.9), "target: --sparsity 0.9, reached 0.9"),
    ],
)
def test_the_target(report: Report, target: Target, line: str) -> None:
    assert line in _rendered(dataclasses.replace(report, target=target)).splitlines()


def test_a_model_of_nothing_has_no_ratio(report: Report) -> None:
    empty = Measure(0, 0, 0, 0)
    assert "%" not in _rendered(dataclasses.replace(report, before=empty, after=empty, layers=()))


def test_training_costs_stand_beside_each_other(report: Report) -> None:
    before = dataclasses.replace(report.before, training=Training(120.0, 400_000_000, 128))
    after = dataclasses.replace(report.after, training=Training(30.0, 100_000_000, 128))
    rows = [line.split() for line in _rendered(dataclasses.replace(report, before=before, after=after)).splitlines() if line.startswith("training")]
    assert rows == [
        ["training,", "an", "epoch", "120", "s", "30", "s", "25.0%"],
        ["training", "memory", "400", "MB", "100", "MB", "25.0%"],
    ]


def test_an_error_of_numbers_has_no_interval(report: Report) -> None:
    before, after = (
        dataclasses.replace(measure, accuracy=Accuracy(value, None, None, 50, "rmse"))
        for measure, value in ((report.before, 0.123456), (report.after, 0.25))
    )
    lines = _rendered(dataclasses.replace(report, before=before, after=after)).splitlines()
    (row,) = (line for line in lines if line.startswith("accuracy  "))
    assert row.split() == ["accuracy", "0.1235", "0.25", "+0.1265"]
    assert "accuracy: rmse of 50 test samples" in lines
