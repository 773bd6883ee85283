"""`compresskit prune --blocks` from the command line to files and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Invoke = Callable[..., Any]
SAMPLE = Path(__file__).parents[2] / "sample_data"
MODEL, DATA = str(SAMPLE / "digits_resnet.pt"), str(SAMPLE / "digits.npz")

pytestmark = pytest.mark.usefixtures("one_thread")


def test_blocks_arrive(invoke: Invoke, pipeline: Any) -> None:
    assert invoke("prune", "m.onnx", "--flops", "0.5", "--blocks", "ffn,heads, lowrank").code == 0
    assert pipeline.asked.config.blocks == ("ffn", "heads", "lowrank")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--blocks rank", "--blocks takes some of channels, heads, head-width, ffn, lowrank with commas between them, each once, not 'rank'"),
        ("--blocks heads,head-width", "--blocks heads cuts whole heads, head-width all of them narrower: give one of them"),
        ("--blocks lowrank --flops 0.5 --steps 2", "--blocks lowrank factorizes once: leave out --steps"),
        (
            "--blocks lowrank --flops 0.5 --method snip",
            "--method snip says nothing about ranks: leave lowrank out of --blocks, or give --method classic or l1l2",
        ),
        (
            "--blocks heads --sparsity 0.5",
            "--blocks says which widths and ranks fall, and zeros leave all as they are: leave out --blocks, or ask for no zeros",
        ),
    ],
)
def test_refused_before_any_work(invoke: Invoke, pipeline: Any, arguments: str, message: str) -> None:
    done = invoke("prune", "m.onnx", *(arguments if "--" in arguments.replace("--blocks", "") else arguments + " --flops 0.5").split())
    assert (done.code, done.out, done.err) == (2, "", f"compresskit: error: {message}\n")
    assert pipeline.request is None


def test_a_block_that_the_model_does_not_have_is_a_usage_error(invoke: Invoke) -> None:
    done = invoke("prune", MODEL, "--flops", "0.5", "--blocks", "channels,heads", "-o", "small.onnx")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"compresskit: error: --blocks heads: {MODEL} has none; it has channels, lowrank\n"
    assert not Path("small.onnx").exists()


def test_factorized_models_are_written_shown_and_read_again(invoke: Invoke) -> None:
    done = invoke("prune", MODEL, "--flops", "0.4", "--blocks", "channels,lowrank", "-o", "a.onnx", "-o", "a.pt", "--report", "r.json", "-v")
    assert done.code == 0, done.err
    report = json.loads(Path("r.json").read_text())
    assert report["settings"]["blocks"] == ["channels", "lowrank"]
    ranks = {row["name"]: row["rank"] for row in report["layers"] if row["rank"]}
    assert ranks
    assert all(f", rank {rank}" in next(line for line in done.out.splitlines() if line.startswith(name)) for name, rank in ranks.items())
    for name in ("a.onnx", "a.pt"):
        again = invoke("prune", name, "--flops", "0.8", "-o", "b.onnx", "-f", "--report", "s.json")
        assert again.code == 0, again.err
        assert json.loads(Path("s.json").read_text())["before"]["macs"] == report["after"]["macs"]


def test_what_a_target_would_empty_is_kept_at_one_channel_and_said(invoke: Invoke) -> None:
    done = invoke("prune", MODEL, "--flops", "0.001", "--floor", "0", "-o", "small.onnx")
    assert done.code == 4
    assert "layer1.0.conv1 is down to its last channel" in done.err
    assert "--flops: 0.0010 of the model is out of reach" in done.err.splitlines()[-1]
    assert Path("small.onnx").exists()


@pytest.mark.parametrize("what", [["--flops", "0.5", "--blocks", "channels,lowrank"], ["--sparsity", "0.8"]])
def test_training_that_diverges_ends_with_code_5_and_writes_nothing(invoke: Invoke, what: list[str]) -> None:
    done = invoke("prune", MODEL, *what, "--method", "l1l2", "--data", DATA, "--epochs", "1", "--lr", "1e30", "-o", "small.onnx")
    assert (done.code, done.out) == (5, "")
    assert "lower the learning rate" in done.err.splitlines()[-1]
    assert not Path("small.onnx").exists()
