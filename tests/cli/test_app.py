"""Errors, exit codes, signals and streams: what every command shares."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from compresskit.cli.app import Signalled, explain
from compresskit.errors import CompresskitError, ExitCode, GuardError, InputError, OutputError, TargetError, UntrustedError, UsageError

Invoke = Callable[..., Any]
PYTHON = [sys.executable, "-m", "compresskit.cli"]


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_goes_to_stdout(invoke: Invoke, flag: str) -> None:
    done = invoke(flag)
    assert (done.code, done.err) == (0, "")


def test_version(invoke: Invoke) -> None:
    done = invoke("--version")
    assert (done.code, done.out, done.err) == (0, f"compresskit {version('compresskit')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing command; see compresskit --help"),
        (["prun"], "no such command 'prun'. Did you mean 'prune', 'metaprune'?; see compresskit --help"),
        (["--verson"], "no such option: --verson (did you mean --version?); see compresskit --help"),
        (["prune"], "missing argument 'MODEL'; see compresskit prune --help"),
        (["prune", "m", "--sed", "1"], "no such option: --sed (did you mean --seed?); see compresskit prune --help"),
        (["prune", "m", "n"], "got unexpected extra argument(s) (n); see compresskit prune --help"),
    ],
)
def test_usage_errors_are_one_line_with_the_way_out(invoke: Invoke, arguments: list[str], message: str) -> None:
    done = invoke(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.lower() == f"compresskit: error: {message}\n".lower()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("u"), 2),
        (InputError("i"), 3),
        (OutputError("o"), 3),
        (TargetError("t"), 4),
        (GuardError("g"), 5),
        (UntrustedError("t"), 6),
        (KeyboardInterrupt(), 130),
        (Signalled(signal.SIGTERM), 143),
        (Signalled(signal.SIGHUP), 129),
        (BrokenPipeError(), 141),
        (MemoryError(), 3),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), 3),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), 3),
        (RuntimeError("could not create a primitive"), 3),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 3),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 3),
        (OSError(errno.EIO, "out of memory.onnx cannot be read"), 1),
        (RuntimeError("shape mismatch"), 1),
        (ZeroDivisionError(), 1),
    ],
)
def test_every_error_has_its_code(error: BaseException, code: int) -> None:
    assert explain(error)[0] == code


def test_a_reader_that_lacked_memory_does_not_blame_the_file() -> None:
    """Nor does a check blame the model."""
    for error in (InputError("the file is damaged"), GuardError("ONNX Runtime cannot run the exported model")):
        error.__cause__ = ValueError()
        assert explain(error) == (error.code, str(error))
        error.__cause__.__cause__ = Exception("[ONNXRuntimeError] : 1 : FAIL : std::bad_alloc")
        code, message = explain(error)
        assert (code, message.partition(":")[0]) == (3, "not enough memory")
    assert explain(InputError("out of memory.onnx: no such file")) == (3, "out of memory.onnx: no such file")


def test_every_class_of_ours_has_an_exit_code() -> None:
    assert {kind.code for kind in CompresskitError.__subclasses__()} <= set(ExitCode)


@pytest.mark.parametrize("error", [InputError("first\nsecond \x1b[31m\rthird"), ValueError("first\nsecond\x07")])
def test_a_message_is_one_line_and_cannot_move_the_cursor(invoke: Invoke, pipeline: Any, error: Exception) -> None:
    pipeline.error = error
    done = invoke("prune", "m.onnx", "--flops", "0.5")
    assert done.err.count("\n") == 1
    assert done.err[:-1].isprintable()


def test_a_fault_of_ours_says_so_and_how_to_learn_more(invoke: Invoke, pipeline: Any) -> None:
    pipeline.error = KeyError("width")
    done = invoke("prune", "m.onnx", "--flops", "0.5")
    assert done.code == 1
    assert done.err.startswith("compresskit: error: unexpected KeyError: 'width'; this is a fault of compresskit")
    assert "--traceback" in done.err


@pytest.mark.parametrize("how", [{"environ": {"COMPRESSKIT_TRACEBACK": "1"}}, {}])
def test_a_traceback_for_those_who_ask(invoke: Invoke, pipeline: Any, how: dict[str, Any]) -> None:
    pipeline.error = KeyError("width")
    done = invoke("prune", "m.onnx", "--flops", "0.5", *([] if how else ["--traceback"]), **how)
    assert done.err.startswith("Traceback (most recent call last)")
    assert done.err.splitlines()[-1].startswith("compresskit: error: ")


@pytest.mark.parametrize(("quiet", "lines"), [([], 1), (["-q"], 1), (["-qq"], 0), (["-q", "-q"], 0)])
def test_quiet_twice_hides_errors_too(invoke: Invoke, pipeline: Any, quiet: list[str], lines: int) -> None:
    pipeline.error = InputError("no such file")
    done = invoke("prune", "m.onnx", "--flops", "0.5", *quiet)
    assert (done.code, done.err.count("\n")) == (3, lines)


def test_two_dashes_end_the_options(invoke: Invoke, pipeline: Any) -> None:
    assert invoke("prune", "--flops", "0.5", "--", "-odd-name.onnx").code == 0
    assert pipeline.asked.model == "-odd-name.onnx"


def test_the_program_answers_as_a_module() -> None:
    done = subprocess.run([*PYTHON, "prune", "m.onnx", "--flops", "1.5"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "compresskit: error: --flops takes a kept fraction between 0 and 1, or a count such as 30M, not '1.5'\n"


def test_a_reader_that_left_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run([*PYTHON, "prune", "--help"], stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PYTHON, "prune", "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (3, "compresskit: error: cannot write the standard output: no space left on device\n")


# A command that has begun to write, says so, and is then sent a signal.
WRITES_FOR_EVER = """
import sys, time
from pathlib import Path
from compresskit.cli import app
from compresskit.cli.console import Console
from compresskit.cli.options import takes, RunOptions
from compresskit.writers import write_atomic

@app.app.command()
@takes(RunOptions)
def wait(console, options):
    with write_atomic(Path("model.onnx"), force=True) as stream:
        stream.write(b"half")
        stream.flush()
        console.result("begun\\n")
        time.sleep(60)

sys.exit(app.main(["wait"], Console()))
"""


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM"), (signal.SIGHUP, 129, "ended by SIGHUP")],
)
def test_a_signal_ends_it_soon_and_leaves_nothing_half_made(tmp_path: Path, number: int, code: int, message: str) -> None:
    (tmp_path / "model.onnx").write_bytes(b"old")
    process = subprocess.Popen([sys.executable, "-c", WRITES_FOR_EVER], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    assert len(list(tmp_path.iterdir())) == 2
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (code, f"compresskit: error: {message}\n")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_an_ignored_hangup_stays_ignored(tmp_path: Path) -> None:
    """`nohup compresskit ...` outlives its terminal."""
    script = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WRITES_FOR_EVER.replace("time.sleep(60)", "time.sleep(0.5)")
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert (tmp_path / "model.onnx").read_bytes() == b"half"
