"""`compresskit prune` up to the library and back: what it asks for, what it refuses before any work, what it prints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from compresskit.cli.prune import Criterion, Normalizer
from compresskit.errors import GuardError, InputError, TargetError
from compresskit.models.latency_table import Table, Whole
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.pipeline import PruneOutcome
from compresskit.pruning.request import PruneRequest, TableRequest
from compresskit.report import Report
from compresskit.training import checkpoints

Invoke = Callable[..., Any]
IS_INPUT = "is an input, and inputs are never overwritten: name another file with -o"


def test_the_choices_are_what_is_registered() -> None:
    from compresskit.pruning.criteria import CRITERIA, NORMALIZERS

    assert sorted(get_args(Criterion)) == sorted(["auto", *CRITERIA])
    assert sorted(get_args(Normalizer)) == sorted(NORMALIZERS)


def test_what_is_not_said_is_the_library_s_default(invoke: Invoke, pipeline: Any) -> None:
    invoke("prune", "m.onnx", "--flops", "0.5", "--seed", "3")
    assert pipeline.asked == PruneRequest(
        model="m.onnx",
        config=PruneConfig(target=Target("flops", 0.5), seed=3),
        outputs=("m.pruned.onnx",),
        device="auto",
        arguments=("prune", "m.onnx", "--flops", "0.5", "--seed", "3"),
    )


@pytest.mark.parametrize(("more", "seed"), [((), 7), (("--seed", "9"), 9)])
@pytest.mark.parametrize("name", ["state", "state.1"])
def test_the_seed_is_not_drawn_again_where_a_training_goes_on(invoke: Invoke, pipeline: Any, name: str, more: tuple[str, ...], seed: int) -> None:
    checkpoints.save(Path(name), {"identity": {"seed": 7}})
    invoke("prune", "m.onnx", "--flops", "0.5", "--checkpoint", "state", "--resume", *more)
    assert pipeline.asked.config.seed == seed


def test_everything_that_is_said_arrives(invoke: Invoke, pipeline: Any) -> None:
    line = (
        "prune w.pth --params 30M --max-drop 0.01 --method classic --criterion taylor --scope layer --normalize max --floor 0.2 "
        "--steps 3 --round-to auto --epochs 2.5 --lr 0.1 --batch-size 64 --optimizer adamw --schedule cosine --label-smoothing 0.1 --augment none "
        "--distill 0 --checkpoint c.pt --checkpoint-minutes 1 --resume --data d.csv --label-column y --mean .4,.5 --std .2,.25 --arch nets:make "
        "--input 3,32,32 --trust --max-bytes 1.5GB -o a.onnx -o b.pt -f -T 2 --device cpu --seed 9 --dry-run"
    )
    assert invoke(*line.split()).code == 0
    assert pipeline.asked == PruneRequest(
        model="w.pth",
        config=PruneConfig(
            target=Target("params", 30e6),
            method="classic",
            criterion="taylor",
            scope="layer",
            normalize="max",
            floor=0.2,
            steps=3,
            round_to=0,
            epochs=2.5,
            batch_size=64,
            optimizer="adamw",
            learning_rate=0.1,
            schedule="cosine",
            label_smoothing=0.1,
            augment="none",
            distill=0.0,
            max_drop=0.01,
            seed=9,
        ),
        outputs=("a.onnx", "b.pt"),
        data="d.csv",
        arch="nets:make",
        input_shape=(3, 32, 32),
        mean=(0.4, 0.5),
        std=(0.2, 0.25),
        label_column="y",
        trust=True,
        max_bytes=1_500_000_000,
        device="cpu",
        threads=2,
        force=True,
        checkpoint="c.pt",
        resume=True,
        checkpoint_minutes=1.0,
        dry_run=True,
        arguments=tuple(line.split()),
    )


def test_what_comes_before_training_arrives(invoke: Invoke, pipeline: Any) -> None:
    line = "prune vgg16 --init --method 3sp --compute-aware --smoothing 0.1 --rescale --reinit --flops 0.2 --seed 1"
    assert invoke(*line.split()).code == 0
    assert pipeline.asked.config == PruneConfig(
        target=Target("flops", 0.2), method="3sp", init=True, compute_aware=True, smoothing=0.1, rescale=True, reinit=True, seed=1
    )
    assert invoke(*["prune", "vgg16", "--init", "--method", "snip", "--params", "0.1", "--pattern", "unstructured", "--seed", "1"]).code == 0
    assert pipeline.asked.config == PruneConfig(target=Target("params", 0.1), method="snip", init=True, pattern="unstructured", seed=1)


def test_a_recipe_gives_way_to_what_is_said(invoke: Invoke, pipeline: Any) -> None:
    line = "prune vgg16 --init --method prospr --inner-steps 200 --first-order --params 0.1 --seed 1 --recipe thesis --epochs 20"
    assert invoke(*line.split()).code == 0
    wanted = {"method": "prospr", "inner_steps": 200, "first_order": True, "init": True, "seed": 1, "epochs": 20.0}
    assert pipeline.asked.config == PruneConfig.from_recipe("thesis", target=Target("params", 0.1), **wanted)
    assert pipeline.asked.config.batch_size == 256


@pytest.mark.parametrize("extra", ["--table read.json", "--data read.json", "--data a.tsv,read.json"])
def test_what_is_read_is_never_written(invoke: Invoke, pipeline: Any, extra: str) -> None:
    Path("read.json").write_text("old")
    done = invoke("prune", "m.onnx", "--latency", "0.5", *extra.split(), "--report", "read.json", "-f")
    assert (done.code, done.err) == (2, f"compresskit: error: read.json {IS_INPUT}\n")


def test_a_latency_and_its_table_arrive(invoke: Invoke, pipeline: Any) -> None:
    invoke("prune", "m.onnx", "--latency", "0.5ms", "--table", "phone.json")
    assert (pipeline.asked.config.target, pipeline.asked.table) == (Target("latency", 0.5, absolute=True), "phone.json")


def test_a_table_is_measured_and_described(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TableRequest] = []
    table = Table("Linux x86_64 A", "1.31.1", 2, 1, (), {"key": Whole(0.5, 0.4)})
    monkeypatch.setattr("compresskit.pruning.tabulate.tabulate", lambda request, _: asked.append(request) or table)
    done = invoke("prune", "m.onnx", "--measure-table", "phone.json", "--input", "3,8,8", "-T", "2", "-f")
    assert asked == [TableRequest("m.onnx", "phone.json", input_shape=(3, 8, 8), threads=2, force=True)]
    assert done.out.splitlines() == [
        "the model: 0.5 ms, its operators 0.4 ms in sum",
        "ONNX Runtime 1.31.1, batch 1, 2 threads, Linux x86_64 A",
        "wrote phone.json (0 operators, 0 points)",
    ]


def test_a_seed_is_drawn_where_none_is_given(invoke: Invoke, pipeline: Any) -> None:
    seeds = set()
    for _ in range(3):
        invoke("prune", "m.onnx", "--flops", "0.5")
        seeds.add(pipeline.asked.config.seed)
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("model", "output"),
    [
        ("sub/net.v2.pt", "sub/net.v2.pruned.onnx"),
        ("resnet20", "resnet20.pruned.onnx"),
        ("pkg.nets:make_net", "make_net.pruned.onnx"),
        ("nets.py:make_net", "make_net.pruned.onnx"),
    ],
)
def test_the_default_output_lies_beside_the_input(invoke: Invoke, pipeline: Any, model: str, output: str) -> None:
    Path("sub").mkdir()
    Path("sub/net.v2.pt").touch()
    invoke("prune", model, "--flops", "0.5")
    assert pipeline.asked.outputs == (output,)


@pytest.mark.parametrize("extra", [[], ["-o", "-"], ["-c"]])
def test_a_pipe_in_is_a_pipe_out(invoke: Invoke, pipeline: Any, report: Report, extra: list[str], capfdbinary: Any) -> None:
    pipeline.outcome = PruneOutcome(report, standard_output=b"\0model\xff")
    done = invoke("prune", "-", "--flops", "0.5", *extra, stdin=b"bytes of a model")
    assert (pipeline.asked.model, pipeline.asked.outputs) == (b"bytes of a model", ("-",))
    assert capfdbinary.readouterr().out == b"\0model\xff"
    assert (done.code, done.out) == (0, "")
    assert "MACs" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("m.onnx", 2, "say what to reach: one of --flops, --params, --size, --latency or --sparsity"),
        ("m.onnx --flops 0", 2, "--flops takes a kept fraction between 0 and 1, or a count such as 30M, not '0'"),
        ("m.onnx --flops 1.5", 2, "--flops takes a kept fraction between 0 and 1, or a count such as 30M, not '1.5'"),
        ("m.onnx --flops abc", 2, "--flops takes a kept fraction between 0 and 1, or a count such as 30M, not 'abc'"),
        ("m.onnx --flops -1", 2, "--flops takes a kept fraction between 0 and 1, or a count such as 30M, not '-1'"),
        ("m.onnx --flops nan", 2, "--flops takes a kept fraction between 0 and 1, or a count such as 30M, not 'nan'"),
        ("m.onnx --size x", 2, "--size takes a kept fraction between 0 and 1, or a count such as 1.5MB, not 'x'"),
        ("m.onnx --latency 5", 2, "--latency takes a kept fraction between 0 and 1, or a time such as 5ms, not '5'"),
        ("m.onnx --latency 5ms --flops 0.5", 2, "--flops and --latency contradict each other: give one target"),
        ("m.onnx --measure-table t.json --latency 5ms", 2, "--latency has no say in --measure-table: leave one of them out"),
        ("m.onnx --measure-table t.json -c", 2, "--stdout has no say in --measure-table: leave one of them out"),
        ("m.onnx --measure-table -", 2, "--measure-table takes a file: name one"),
        ("m.onnx --flops 0.5 --params 0.5", 2, "--flops and --params contradict each other: give one target"),
        ("m.onnx --flops 0.5 --sparsity 0.5", 2, "--flops and a sparsity (--sparsity, --pattern N:M) contradict each other: give one"),
        ("m.onnx --sparsity 1", 2, "--sparsity takes a removed fraction between 0 and 1, not 1"),
        ("m.onnx --sparsity nan", 2, "--sparsity nan: expected a finite number"),
        ("m.onnx --flops 0.5 --pattern 2:4", 2, "--flops and a sparsity (--sparsity, --pattern N:M) contradict each other: give one"),
        (
            "m.onnx --pattern unstructured",
            2,
            "--pattern unstructured needs --sparsity or --params: say what goes, or stays",
        ),
        ("m.onnx --pattern 4:2", 2, "--pattern takes unstructured or N:M with N below M (2:4), not '4:2'"),
        ("m.onnx --sparsity 0.9 --pattern 2:4", 2, "--pattern 2:4 removes 0.5 of the weights, not 0.9: give --sparsity 0.5"),
        ("m.onnx --flops 0.5 --resume", 2, "--resume goes with --checkpoint: say which file to go on from"),
        ("m.onnx --flops 0.5 --round-to 0", 2, "--round-to '0': expected a positive whole number, or auto"),
        ("m.onnx --flops 0.5 --lr inf", 2, "--lr inf: expected a finite number"),
        ("m.onnx --flops 0.5 --mean a,b", 2, "--mean 'a,b': expected numbers between commas, such as 0.49,0.48,0.45"),
        ("m.onnx --flops 0.5 --std inf", 2, "--std 'inf': expected finite numbers"),
        ("m.onnx --flops 0.5 --input 3,0", 2, "--input '3,0': expected positive whole numbers between commas, such as 3,32,32"),
        ("m.onnx --flops 0.5 --max-bytes x", 2, "--max-bytes 'x': expected a number of bytes, such as 500MB or 8GB"),
        ("m.onnx --flops 0.5 -o exists.onnx", 2, "exists.onnx exists: use --force to replace it"),
        ("m.onnx --flops 0.5 --report exists.onnx", 2, "exists.onnx exists: use --force to replace it"),
        ("exists.onnx --flops 0.5 -f -o exists.onnx", 2, "exists.onnx is an input, and inputs are never overwritten: name another file with -o"),
        (
            "exists.onnx --flops 0.5 -f --report ./exists.onnx",
            2,
            "exists.onnx is an input, and inputs are never overwritten: name another file with -o",
        ),
        (
            "exists.onnx --flops 0.5 --checkpoint exists.onnx",
            2,
            "exists.onnx is an input, and inputs are never overwritten: name another file with -o",
        ),
        ("m.onnx --flops 0.5 -o a.onnx --checkpoint a.onnx", 2, "a.onnx is named twice as an output"),
        ("m.onnx --flops 0.5 -o a.tflite", 2, "cannot write a.tflite: the suffix decides the format, one of .onnx, .pt, .safetensors"),
        ("m.onnx --flops 0.5 -o a.onnx -o a.onnx", 2, "a.onnx is named twice as an output"),
        ("m.onnx --flops 0.5 -o - -c", 2, "the standard output is named twice as an output"),
        ("m.onnx --flops 0.5 -c --json", 2, "--json and the model both want the standard output: name a file with -o, or the report's with --report"),
        ("m.onnx --flops 0.5 --report -", 2, "--report takes a file: only --json prints on the standard output"),
        ("m.onnx --flops 0.5 --plot w.gif", 2, "cannot draw w.gif: the suffix decides the format, one of .png, .svg, .pdf"),
        ("- --flops 0.5", 2, "no model on the standard input: it is empty"),
    ],
)
def test_refused_before_any_work(invoke: Invoke, pipeline: Any, arguments: str, code: int, message: str) -> None:
    Path("exists.onnx").write_bytes(b"old")
    done = invoke("prune", *arguments.split())
    assert (done.code, done.out, done.err) == (code, "", f"compresskit: error: {message}\n")
    assert pipeline.request is None
    assert Path("exists.onnx").read_bytes() == b"old"


@pytest.mark.parametrize(("flag", "refused"), [("--plot", True), ("--report", True), ("--checkpoint", False)])
def test_files_in_a_folder_of_data_are_never_overwritten(invoke: Invoke, pipeline: Any, flag: str, refused: bool) -> None:
    """A checkpoint may be that of an earlier run: training refuses what is none."""
    image = Path("images/cat/1.png")
    image.parent.mkdir(parents=True)
    image.write_bytes(b"old")
    done = invoke("prune", "m.onnx", "--flops", "0.5", "-f", "--data", "images", flag, str(image), "--dry-run")
    assert (f"{image} is in the input images, and inputs are never overwritten" in done.err) == refused
    assert (pipeline.request is None) == refused


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("m.onnx --data d.npz:images,labels --report d.npz", "d.npz"),
        ("m.onnx --data x.npy,y.npy --report y.npy", "y.npy"),
        ("m.onnx --data loader.py:load --report loader.py", "loader.py"),
        ("loader.py:make --report loader.py", "loader.py"),
        ("x.npy --arch loader.py:make --report loader.py", "loader.py"),
    ],
)
def test_what_a_colon_follows_is_never_overwritten(invoke: Invoke, pipeline: Any, line: str, name: str) -> None:
    for file in ("d.npz", "x.npy", "y.npy", "loader.py"):
        Path(file).write_bytes(b"old")
    done = invoke("prune", *line.split(), "--flops", "0.5", "-f", "-o", "small.onnx")
    assert (done.code, done.err) == (2, f"compresskit: error: {name} {IS_INPUT}\n")
    assert pipeline.request is None
    assert Path(name).read_bytes() == b"old"


def test_a_missing_folder_is_refused_before_any_work(invoke: Invoke, pipeline: Any) -> None:
    done = invoke("prune", "m.onnx", "--flops", "0.5", "-o", "missing/a.onnx")
    assert (done.code, done.err.startswith("compresskit: error: cannot write missing/a.onnx: there is no folder")) == (3, True)
    assert pipeline.request is None


def test_too_much_on_the_standard_input_is_refused(invoke: Invoke, pipeline: Any) -> None:
    done = invoke("prune", "-", "--flops", "0.5", "--max-bytes", "4", stdin=b"12345")
    assert (done.code, "raise --max-bytes" in done.err) == (2, True)


def test_binary_is_not_written_to_a_terminal(invoke: Invoke, pipeline: Any) -> None:
    done = invoke("prune", "m.onnx", "--flops", "0.5", "-c", terminal=True)
    assert (done.code, "not written to a terminal" in done.err, pipeline.request) == (2, True, None)


def test_json_is_one_object_on_stdout(invoke: Invoke, pipeline: Any, report: Report) -> None:
    done = invoke("prune", "m.onnx", "--flops", "0.5", "--json")
    assert Report.from_json(done.out) == report
    assert done.err == "compresskit: warning: one thing to know\n"


def test_the_report_and_the_drawing_are_written(invoke: Invoke, pipeline: Any, report: Report) -> None:
    done = invoke("prune", "m.onnx", "--flops", "0.5", "--report", "r.json", "--plot", "w.svg", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert Report.from_json(Path("r.json").read_text()) == report
    drawing = Path("w.svg").read_text()
    assert drawing.startswith("<?xml")
    assert "layer11.conv" in drawing or drawing.count("<path") > len(report.layers)


@pytest.mark.parametrize("error", [TargetError("the best that can be reached is 0.42"), GuardError("accuracy fell by 0.02")])
def test_a_target_that_is_missed_still_shows_what_was_reached(invoke: Invoke, pipeline: Any, report: Report, error: Any) -> None:
    pipeline.outcome = PruneOutcome(report, failure=error)
    done = invoke("prune", "m.onnx", "--flops", "0.1", "--json", "--report", "r.json")
    assert done.code == error.code
    assert Report.from_json(done.out) == report
    assert Report.from_json(Path("r.json").read_text()) == report
    assert done.err.splitlines()[-1] == f"compresskit: error: {error}"


def test_the_library_s_errors_end_it(invoke: Invoke, pipeline: Any) -> None:
    pipeline.error = InputError("m.onnx: no such file")
    done = invoke("prune", "m.onnx", "--flops", "0.5")
    assert (done.code, done.out, done.err) == (3, "", "compresskit: error: m.onnx: no such file\n")


def test_verbose_says_what_is_done_and_lists_everything(invoke: Invoke, pipeline: Any, report: Report) -> None:
    brief, full = invoke("prune", "m.onnx", "--flops", "0.5"), invoke("prune", "m.onnx", "--flops", "0.5", "-v")
    assert brief.err == "compresskit: warning: one thing to know\n"
    assert full.err == "compresskit: training\ncompresskit: a detail\ncompresskit: warning: one thing to know\n"
    assert "3 more (-v)" in brief.out
    assert all(row.name in full.out for row in report.layers)


def test_a_run_without_layers_or_data_prints_what_there_is(invoke: Invoke, pipeline: Any, report: Report) -> None:
    bare = {"accuracy": None, "latency": None}
    before, after = dataclasses.replace(report.before, **bare), dataclasses.replace(report.after, **bare, nonzero=12_000)
    small = dataclasses.replace(report, before=before, after=after, layers=(), skipped=(), parity=None, target=None, warnings=(), outputs=())
    pipeline.outcome = PruneOutcome(small)
    done = invoke("prune", "m.onnx", "--flops", "0.5")
    assert done.code == 0
    assert "accuracy" not in done.out
    assert "nonzero" in done.out


def test_the_json_is_text_that_other_programs_read(invoke: Invoke, pipeline: Any) -> None:
    assert json.loads(invoke("prune", "m.onnx", "--flops", "0.5", "--json").out)["after"]["macs"] == 20_400_000
