"""`compresskit decode` up to the library and back: what it asks for, what it refuses before any work, what it prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compresskit.cli.decode import DECODING_ONLY, DecodeOptions
from compresskit.codec.config import DecodeRequest
from compresskit.codec.reports import DecodeOutcome, DecodeReport, StreamInfo
from compresskit.errors import InputError

Invoke = Callable[..., Any]


def test_the_options_of_one_use_alone_are_options() -> None:
    assert {field.name for field in dataclasses.fields(DecodeOptions)} >= DECODING_ONLY


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("scan.coinpp", DecodeRequest("scan.coinpp")),
        ("p.coinpp -o p.png", DecodeRequest("p.coinpp", "p.png")),
        ("set.coinpp -o out/ --item 3", DecodeRequest("set.coinpp", "out/", item=3)),
        ("t2m.coinpp --region lat=30:60,lon=-10:40", DecodeRequest("t2m.coinpp", region="lat=30:60,lon=-10:40")),
        ("p.coinpp --scale 2", DecodeRequest("p.coinpp", scale=2)),
        ("- -o - --format nii", DecodeRequest("-", "-", format="nii", standard_input=b"a stream")),
        ("-", DecodeRequest("-", "-", standard_input=b"a stream")),
        ("- -o a.nii", DecodeRequest("-", "a.nii", standard_input=b"a stream")),
        ("scan.coinpp -t", DecodeRequest("scan.coinpp", test=True)),
        ("half.coinpp --partial -o p.png", DecodeRequest("half.coinpp", "p.png", partial=True)),
        (
            "s.coinpp -c --base b.safetensors --max-memory 1GB --max-macs 2e12 -T 2 -f",
            DecodeRequest("s.coinpp", "-", base="b.safetensors", max_memory=10**9, max_macs=2e12, threads=2, force=True),
        ),
    ],
)
def test_what_a_user_can_do(invoke: Invoke, decoder: Any, line: str, request_: DecodeRequest) -> None:
    done = invoke("decode", *line.split(), stdin=b"a stream")
    assert (done.code, decoder.asked) == (0, dataclasses.replace(request_, arguments=("decode", *line.split())))


def test_the_decoded_file_goes_into_a_pipe(invoke: Invoke, decoder: Any, decode_report: DecodeReport, capfdbinary: Any) -> None:
    decoder.outcome = DecodeOutcome(decode_report, standard_output=b"\0file\xff")
    done = invoke("decode", "-", stdin=b"a stream")
    assert capfdbinary.readouterr().out == b"\0file\xff"
    assert (done.code, done.out) == (0, "")
    assert "scan.nii" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("s.coinpp -o a.nii -c", 2, "-o a.nii and --stdout contradict each other: give one"),
        ("s.coinpp -o exists.nii", 2, "exists.nii exists: use --force to replace it"),
        ("exists.nii -f -o exists.nii", 2, "exists.nii is an input, and inputs are never overwritten: name another file with -o"),
        ("s.coinpp --base exists.nii -f -o exists.nii", 2, "exists.nii is an input, and inputs are never overwritten: name another file with -o"),
        ("exists.nii --info -f --report exists.nii", 2, "exists.nii is an input, and inputs are never overwritten: name another file with -o"),
        ("s.coinpp -c --json", 2, "--json and the decoded file both want the standard output: name a file with -o, or the report's with --report"),
        ("s.coinpp --report -", 2, "--report takes a file: only --json prints on the standard output"),
        ("s.coinpp --max-memory x", 2, "--max-memory 'x': expected a number of bytes, such as 500MB or 8GB"),
        ("s.coinpp --info --region x=0:1", 2, "--region has no say in --info: leave one of them out"),
        ("s.coinpp --info --partial", 2, "--partial has no say in --info: leave one of them out"),
        ("s.coinpp --info --test", 2, "--test has no say in --info: leave one of them out"),
        ("-", 2, "no bitstream on the standard input: it is empty"),
        ("- --info", 2, "no bitstream on the standard input: it is empty"),
    ],
)
def test_refused_before_any_work(invoke: Invoke, decoder: Any, arguments: str, code: int, message: str) -> None:
    Path("exists.nii").write_bytes(b"old")
    done = invoke("decode", *arguments.split())
    assert (done.code, done.out, done.err) == (code, "", f"compresskit: error: {message}\n")
    assert decoder.request is None
    assert Path("exists.nii").read_bytes() == b"old"


def test_too_much_on_the_standard_input_is_refused(invoke: Invoke, decoder: Any) -> None:
    done = invoke("decode", "-", "--max-memory", "4", stdin=b"12345")
    assert (done.code, "raise --max-memory" in done.err, decoder.request) == (2, True, None)


@pytest.mark.parametrize("arguments", [["s.coinpp", "-c"], ["-"]])
def test_binary_is_not_written_to_a_terminal(invoke: Invoke, decoder: Any, arguments: list[str]) -> None:
    done = invoke("decode", *arguments, stdin=b"a stream", terminal=True)
    assert (done.code, "not written to a terminal" in done.err, decoder.request) == (2, True, None)


@pytest.mark.parametrize("flag", ["-t", "--test", "--dry-run"])
def test_a_test_writes_nothing(invoke: Invoke, decoder: Any, flag: str) -> None:
    done = invoke("decode", "-", flag, "--report", "r.json", stdin=b"a stream", terminal=True)
    assert (done.code, decoder.asked.test, list(Path().iterdir())) == (0, True, [])


def test_the_report_is_one_json_object_on_stdout_or_in_a_file(invoke: Invoke, decoder: Any, decode_report: DecodeReport) -> None:
    done = invoke("decode", "s.coinpp", "--json", "--report", "r.json")
    assert DecodeReport.from_json(done.out) == decode_report
    assert DecodeReport.from_json(Path("r.json").read_text()) == decode_report
    assert done.err == "compresskit: warning: one thing to know\n"


def test_the_library_s_errors_end_it(invoke: Invoke, decoder: Any) -> None:
    decoder.error = InputError("s.coinpp: no such file")
    done = invoke("decode", "s.coinpp")
    assert (done.code, done.out, done.err) == (3, "", "compresskit: error: s.coinpp: no such file\n")


@pytest.fixture
def described(stream: StreamInfo, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, str, int | None]]:
    """What the library is asked to describe; it answers with `stream`."""
    asked = []

    def describe(data: bytes, name: str, max_memory: int | None) -> StreamInfo:
        asked.append((data, name, max_memory))
        return stream

    monkeypatch.setattr("compresskit.codec.decoding.describe", describe)
    return asked


def test_info_describes_and_does_not_decode(invoke: Invoke, decoder: Any, described: Any, stream: StreamInfo) -> None:
    Path("s.coinpp").write_bytes(b"stream")
    for file in ("s.coinpp", "-"):
        done = invoke("decode", "--info", file, "--max-memory", "1GB", stdin=b"stream")
        assert (done.code, done.err, "chunks" in done.out) == (0, "", True)
    assert described == [(b"stream", file, 10**9) for file in ("s.coinpp", "-")]
    report = DecodeReport.from_json(invoke("decode", "--info", "s.coinpp", "--json").out)
    assert (report.stream, report.outputs, report.verified) == (stream, (), False)
    assert decoder.request is None


def test_info_on_what_is_not_there(invoke: Invoke) -> None:
    done = invoke("decode", "--info", "absent.coinpp")
    assert (done.code, done.out, done.err) == (3, "", "compresskit: error: absent.coinpp: cannot be read: no such file or directory\n")
