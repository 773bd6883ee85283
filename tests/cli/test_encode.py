"""`compresskit encode` up to the library and back: what it asks for, what it refuses before any work, what it prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from compresskit.cli.encode import ENCODING_ONLY, EncodeOptions, Method
from compresskit.cli.train_base import TRAINING_ONLY, Modality
from compresskit.codec.config import METHODS, EncodeConfig, EncodeRequest, TrainBaseRequest
from compresskit.codec.reports import EncodeOutcome, EncodeReport, TrainBaseReport
from compresskit.errors import GuardError, InputError, TargetError

Invoke = Callable[..., Any]


def test_the_choices_are_the_library_s() -> None:
    from compresskit.codec.training import KINDS

    assert get_args(Method) == METHODS
    assert get_args(Modality) == tuple(KINDS)


def test_the_options_of_one_use_alone_are_options() -> None:
    fields = {field.name for field in dataclasses.fields(EncodeOptions)}
    assert fields >= ENCODING_ONLY
    assert fields >= TRAINING_ONLY
    assert not ENCODING_ONLY & TRAINING_ONLY


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("scan.nii", EncodeRequest(("scan.nii",), "scan.coinpp")),
        ("photo.png --quality 6 -o p.coinpp", EncodeRequest(("photo.png",), "p.coinpp", EncodeConfig(quality=6))),
        ("speech.wav --kbps 20 --verify", EncodeRequest(("speech.wav",), "speech.coinpp", EncodeConfig(kbps=20, verify=True))),
        ("t2m.nc --var t2m --max-error 0.5", EncodeRequest(("t2m.nc",), "t2m.coinpp", EncodeConfig(max_error=0.5), variable="t2m")),
        ("scan.nii.gz --lossless", EncodeRequest(("scan.nii.gz",), "scan.coinpp", EncodeConfig(lossless=True))),
        ("photo.png --method coin --bpp 0.3", EncodeRequest(("photo.png",), "photo.coinpp", EncodeConfig(method="coin", bpp=0.3))),
        ("a.png b.png -o set.coinpp", EncodeRequest(("a.png", "b.png"), "set.coinpp")),
        (
            "scan.nii --base brain.base.safetensors",
            EncodeRequest(("scan.nii",), "scan.coinpp", EncodeConfig(base="brain.base.safetensors")),
        ),
        ("- --format nii -o -", EncodeRequest(("-",), "-", format="nii", standard_input=b"a file")),
    ],
)
def test_what_a_user_can_do(invoke: Invoke, encoder: Any, line: str, request_: EncodeRequest) -> None:
    done = invoke("encode", *line.split(), stdin=b"a file")
    assert (done.code, encoder.asked) == (0, dataclasses.replace(request_, arguments=("encode", *line.split())))


def test_everything_that_is_said_arrives(invoke: Invoke, encoder: Any) -> None:
    line = (
        "encode a.dat --quality 9 --bits 4 --steps 7 --patch 16 --psnr 40 --fallback --method coin++ --base b.safetensors --embed-base --progressive "
        "--verify --seed 9 --format npy --var v --preview p.svg -j 3 --cluster tcp://host:8786 --max-bytes 1.5GB -T 2 -f --dry-run -o a.coinpp"
    )
    assert invoke(*line.split()).code == 0
    assert encoder.asked == EncodeRequest(
        inputs=("a.dat",),
        output="a.coinpp",
        config=EncodeConfig(
            method="coin++",
            quality=9,
            bits=4,
            steps=7,
            patch=16,
            psnr=40.0,
            base="b.safetensors",
            embed_base=True,
            progressive=True,
            fallback=True,
            verify=True,
            seed=9,
        ),
        format="npy",
        variable="v",
        preview="p.svg",
        jobs=3,
        cluster="tcp://host:8786",
        max_bytes=1_500_000_000,
        threads=2,
        force=True,
        dry_run=True,
        arguments=tuple(line.split()),
    )


@pytest.mark.parametrize(
    ("file", "output"),
    [("sub/scan.v2.nii", "sub/scan.v2.coinpp"), ("sub/scan.NII.GZ", "sub/scan.coinpp"), ("plain", "plain.coinpp"), ("gone/scan.nii", "scan.coinpp")],
)
def test_the_default_output_lies_beside_the_input(invoke: Invoke, encoder: Any, file: str, output: str) -> None:
    Path("sub").mkdir()
    if not file.startswith("gone"):
        Path(file).touch()
    invoke("encode", file)
    assert encoder.asked.output == output


@pytest.mark.parametrize("extra", [[], ["-o", "-"], ["-c"], ["-o", "-", "-c"]])
def test_a_pipe_in_is_a_pipe_out(invoke: Invoke, encoder: Any, encode_report: EncodeReport, extra: list[str], capfdbinary: Any) -> None:
    encoder.outcome = EncodeOutcome(encode_report, standard_output=b"\0stream\xff")
    done = invoke("encode", "-", *extra, stdin=b"bytes of a file")
    assert (encoder.asked.standard_input, encoder.asked.output) == (b"bytes of a file", "-")
    assert capfdbinary.readouterr().out == b"\0stream\xff"
    assert (done.code, done.out) == (0, "")
    assert "PSNR" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("a.png b.png", 2, "2 inputs make one archive: name it with -o"),
        ("a.png - -o s.coinpp", 2, "the standard input (-) is encoded alone: name files, or pipe in one"),
        ("a.png -o b.coinpp -c", 2, "-o b.coinpp and --stdout contradict each other: give one"),
        ("a.png --quality 0", 2, "--quality 0 is out of range: give 1 (smallest) to 9 (nearest)"),
        ("a.png --psnr 30 --bpp 1", 2, "--psnr, --bpp and --kbps exclude each other: give one"),
        ("a.png --lossless --max-error 1", 2, "--lossless leaves no error for --max-error: give one of them"),
        ("a.png --bpp nan", 2, "--bpp nan: expected a finite number"),
        ("a.png --max-error inf", 2, "--max-error inf: expected a finite number"),
        ("a.png --psnr -1", 2, "--psnr -1 is out of range: give a positive number"),
        ("a.png --bits 13", 2, "--bits 13 is out of range for COIN++: give 3 to 12"),
        ("a.png --method coin --progressive", 2, "--progressive orders latents, and COIN has none: leave it or --method coin out"),
        ("a.png --max-bytes x", 2, "--max-bytes 'x': expected a number of bytes, such as 500MB or 8GB"),
        ("a.png -o exists.png", 2, "exists.png exists: use --force to replace it"),
        ("exists.png -f -o exists.png", 2, "exists.png is an input, and inputs are never overwritten: name another file with -o"),
        ("a.png --base exists.png -f -o exists.png", 2, "exists.png is an input, and inputs are never overwritten: name another file with -o"),
        ("exists.png -f --preview exists.png", 2, "exists.png is an input, and inputs are never overwritten: name another file with -o"),
        ("a.png --report a.coinpp", 2, "a.coinpp is named twice as an output"),
        ("a.png -c --json", 2, "--json and the bitstream both want the standard output: name a file with -o, or the report's with --report"),
        ("a.png --preview -", 2, "--preview takes a file: only --json prints on the standard output"),
        ("a.png --preview p.gif", 2, "cannot draw p.gif: the suffix decides the format, one of .png, .svg, .pdf"),
        ("-", 2, "no file on the standard input: it is empty"),
        ("a.png --latents 64", 2, "--latents goes with --train-base"),
        ("a.png --resume", 2, "--resume goes with --train-base"),
        ("scans/ --train-base --cluster tcp://host:8786 -o b", 2, "--cluster has no say in --train-base: leave one of them out"),
        ("scans/ --train-base --quality 5 -o b", 2, "--quality has no say in --train-base: leave one of them out"),
        (
            "scans/ --train-base -o b",
            2,
            "--train-base goes with --modality: say what the base network is for, one of image, gray, audio, volume, globe",
        ),
        ("scans/ --train-base --modality volume", 2, "--train-base writes a file: name it with -o, such as -o brain.base.safetensors"),
        ("scans/ --train-base --modality volume -o -", 2, "--train-base writes a file: name it with -o, such as -o brain.base.safetensors"),
        ("- --train-base --modality volume -o b", 2, "--train-base reads files and folders, not the standard input"),
        ("scans/ --train-base --modality volume -o b --resume", 2, "--resume goes with --checkpoint: say which file to go on from"),
        ("scans/ --train-base --modality volume -o exists.png", 2, "exists.png exists: use --force to replace it"),
    ],
)
def test_refused_before_any_work(invoke: Invoke, encoder: Any, trainer: Any, arguments: str, code: int, message: str) -> None:
    Path("exists.png").write_bytes(b"old")
    done = invoke("encode", *arguments.split())
    assert (done.code, done.out, done.err) == (code, "", f"compresskit: error: {message}\n")
    assert (encoder.request, trainer.request) == (None, None)
    assert Path("exists.png").read_bytes() == b"old"


def test_a_missing_folder_is_refused_before_any_work(invoke: Invoke, encoder: Any) -> None:
    done = invoke("encode", "a.png", "-o", "missing/a.coinpp")
    assert (done.code, done.err.startswith("compresskit: error: cannot write missing/a.coinpp: there is no folder")) == (3, True)
    assert encoder.request is None


def test_too_much_on_the_standard_input_is_refused(invoke: Invoke, encoder: Any) -> None:
    done = invoke("encode", "-", "--max-bytes", "4", stdin=b"12345")
    assert (done.code, "raise --max-bytes" in done.err, encoder.request) == (2, True, None)


def test_binary_is_not_written_to_a_terminal(invoke: Invoke, encoder: Any) -> None:
    done = invoke("encode", "a.png", "-c", terminal=True)
    assert (done.code, "not written to a terminal" in done.err, encoder.request) == (2, True, None)


def test_the_report_is_one_json_object_on_stdout_or_in_a_file(invoke: Invoke, encoder: Any, encode_report: EncodeReport) -> None:
    done = invoke("encode", "a.png", "--json", "--report", "r.json")
    assert EncodeReport.from_json(done.out) == encode_report
    assert EncodeReport.from_json(Path("r.json").read_text()) == encode_report
    assert done.err == "compresskit: warning: one thing to know\n"


def test_a_dry_run_leaves_no_file_and_says_so(invoke: Invoke, encoder: Any) -> None:
    done = invoke("encode", "a.png", "--report", "r.json", "--dry-run")
    assert (done.code, list(Path().iterdir())) == (0, [])
    assert "compresskit: warning: dry run: a.coinpp would be written\n" in done.err


@pytest.mark.parametrize("error", [TargetError("--psnr 90 is out of reach"), GuardError("--verify: a.png differs")])
def test_a_failure_still_shows_what_was_reached(invoke: Invoke, encoder: Any, encode_report: EncodeReport, error: Any) -> None:
    encoder.outcome = EncodeOutcome(encode_report, failure=error)
    done = invoke("encode", "a.png", "--json")
    assert (done.code, EncodeReport.from_json(done.out)) == (error.code, encode_report)
    assert done.err.splitlines()[-1] == f"compresskit: error: {error}"


def test_the_library_s_errors_end_it(invoke: Invoke, encoder: Any) -> None:
    encoder.error = InputError("a.png: no such file")
    done = invoke("encode", "a.png")
    assert (done.code, done.out, done.err) == (3, "", "compresskit: error: a.png: no such file\n")


def test_a_base_network_is_trained(invoke: Invoke, trainer: Any, training_report: TrainBaseReport) -> None:
    line = "encode --train-base scans/ --modality volume -o brain.base.safetensors"
    assert invoke(*line.split()).code == 0
    assert trainer.asked == TrainBaseRequest(("scans/",), "volume", "brain.base.safetensors", arguments=tuple(line.split()))

    line = (
        "encode --train-base a.nc b/ --modality globe -o b.safetensors --var t2m --steps 50 --latents 64 --width 32 --depth 3 --seed 4 "
        "--checkpoint c.pt --resume --max-bytes 1GB -T 2 -f --json --report r.json"
    )
    done = invoke(*line.split())
    assert TrainBaseReport.from_json(done.out) == TrainBaseReport.from_json(Path("r.json").read_text()) == training_report
    assert trainer.asked == TrainBaseRequest(
        inputs=("a.nc", "b/"),
        modality="globe",
        output="b.safetensors",
        variable="t2m",
        steps=50,
        latents=64,
        width=32,
        depth=3,
        seed=4,
        checkpoint="c.pt",
        resume=True,
        max_bytes=10**9,
        threads=2,
        force=True,
        arguments=tuple(line.split()),
    )


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ("-o scans/a.png", "is in the input scans, and inputs are never overwritten: name a file elsewhere"),
        ("-o b --report scans/a.png", "is in the input scans, and inputs are never overwritten: name a file elsewhere"),
        # A checkpoint of an earlier run may be in the folder: it is compared with the files that are read.
        ("-o b --checkpoint scans/a.png", "is an input, and inputs are never overwritten: name another file with -o"),
    ],
)
def test_no_file_that_is_trained_on_is_overwritten(invoke: Invoke, outputs: str, message: str) -> None:
    Path("scans").mkdir()
    Path("scans/a.png").write_bytes(b"a picture")
    done = invoke("encode", "--train-base", "scans/", "--modality", "image", "-f", *outputs.split())
    assert (done.code, done.err.splitlines()[-1]) == (2, f"compresskit: error: scans/a.png {message}")
    assert [path.read_bytes() for path in Path("scans").iterdir()] == [b"a picture"]


def test_an_option_of_the_other_use_may_stand_in_a_file(invoke: Invoke, encoder: Any, trainer: Any) -> None:
    Path("compresskit.toml").write_text("[encode]\nquality = 7\nlatents = 32\n")
    assert invoke("encode", "--train-base", "scans/", "--modality", "volume", "-o", "b.safetensors").code == 0
    assert invoke("encode", "a.png").code == 0
    assert (trainer.asked.latents, encoder.asked.config.quality) == (32, 7)
