from __future__ import annotations

import io
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.errors import OutputError, UsageError
from compresskit.writers import STDOUT, check_target, write_atomic, write_bytes

NEEDS_FULL_DEVICE = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
NOT_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


@given(data=st.binary(max_size=10_000), old=st.none() | st.binary(max_size=100))
def test_a_target_holds_exactly_what_was_written(tmp_path_factory: pytest.TempPathFactory, data: bytes, old: bytes | None) -> None:
    target = tmp_path_factory.mktemp("out") / "model.onnx"
    if old is not None:
        target.write_bytes(old)
    write_bytes(target, data, force=True)
    assert target.read_bytes() == data
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_whatever_is_raised_leaves_the_folder_as_it_was(tmp_path: Path, old: bytes | None, failure: type[BaseException]) -> None:
    target = tmp_path / "model.onnx"
    if old is not None:
        target.write_bytes(old)

    def write_half() -> None:
        with write_atomic(target, force=True) as stream:
            stream.write(b"half")
            stream.flush()
            raise failure

    with pytest.raises(failure):
        write_half()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if old is None else [old])


@pytest.mark.parametrize("step", ["os.fsync", "os.replace", "os.open"])
def test_a_step_that_fails_is_one_line_and_leaves_nothing(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "model.onnx"
    monkeypatch.setattr(step, fail)
    with pytest.raises(OutputError, match=r"^cannot write .*model\.onnx: no space left on device$"):
        write_bytes(target, b"data", force=False)
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


def test_the_bytes_are_on_the_disk_before_they_have_the_name_and_then_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[object] = []
    replace, fsync = os.replace, os.fsync

    def synced(descriptor: int) -> None:
        status = os.fstat(descriptor)
        steps.append("folder" if stat.S_ISDIR(status.st_mode) else status.st_size)
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        steps.append(target.name)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_bytes(tmp_path / "model.onnx", b"data", force=False)
    assert steps == [4, "model.onnx", "folder"]


def test_a_folder_that_cannot_be_synchronised_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    write_bytes(tmp_path / "model.onnx", b"data", force=False)
    assert (tmp_path / "model.onnx").read_bytes() == b"data"
    assert not descriptors or len(os.listdir("/proc/self/fd")) == descriptors


def test_an_existing_file_stays_without_force(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    with pytest.raises(UsageError, match=r"model\.onnx exists: use --force to replace it$"):
        write_bytes(target, b"new", force=False)
    assert target.read_bytes() == b"old"


def test_a_file_that_appears_meanwhile_stays_without_force(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"

    def write_and_meet() -> None:
        with write_atomic(target, force=False) as stream:
            stream.write(b"new")
            target.write_bytes(b"of somebody else")

    with pytest.raises(UsageError, match="exists"):
        write_and_meet()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"of somebody else"]


@pytest.mark.parametrize("alias", ["same", "relative", "symlink", "hardlink"])
def test_the_input_is_never_overwritten(tmp_path: Path, alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"input")
    monkeypatch.chdir(tmp_path)
    target = {"same": source, "relative": Path("model.onnx")}.get(alias, tmp_path / "alias.onnx")
    if alias == "symlink":
        target.symlink_to(source)
    if alias == "hardlink":
        target.hardlink_to(source)
    with pytest.raises(UsageError, match="is an input"):
        write_bytes(target, b"output", force=True, protect=[source])
    assert source.read_bytes() == b"input"


@pytest.mark.parametrize("name", ["data/x_train.npy", "data/cat/1.PNG", "data/cat/../labels", "link/cat/1.PNG", "alias.svg"])
def test_what_is_in_an_input_folder_is_never_overwritten(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever leads there; `alias.svg` is a link to a file in it."""
    monkeypatch.chdir(tmp_path)
    data = Path("data")
    (data / "cat").mkdir(parents=True)
    for file in ("x_train.npy", "labels", "cat/1.PNG"):
        (data / file).write_bytes(b"input")
    Path("link").symlink_to(data)
    Path("alias.svg").symlink_to(data / "labels")
    with pytest.raises(UsageError, match=f"^{name} is in the input data, and inputs are never overwritten: name a file elsewhere$"):
        write_bytes(Path(name), b"output", force=True, protect=[data])
    assert Path(name).read_bytes() == b"input"


def test_beside_the_files_of_an_input_folder_there_is_room(tmp_path: Path) -> None:
    """For new files, and for models, reports and drawings that an earlier run left; in a folder beside it for all."""
    data, beside = tmp_path / "data", tmp_path / "data.out"
    for folder in (data, beside):
        folder.mkdir()
    for target in (data / "model.onnx", data / "report.json", data / "curve.svg", data / "widths.PDF", beside / "x_train.npy"):
        for content in (b"output", b"of the next run"):
            write_bytes(target, content, force=True, protect=[data])
            assert target.read_bytes() == content
    write_bytes(data / "curve.png", b"new", force=False, protect=[data])
    assert (data / "curve.png").read_bytes() == b"new"


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "model.onnx", tmp_path / "link.onnx"
    real.parent.mkdir()
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_bytes(link, b"new", force=True)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_a_dangling_link_gets_its_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there")
    write_bytes(tmp_path / "link", b"data", force=False)
    assert (tmp_path / "there").read_bytes() == b"data"


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="cannot write"):
        write_bytes(tmp_path / "a", b"data", force=True)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_mode_respects_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "model.onnx", b"data", force=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.onnx").stat().st_mode) == 0o666 & ~umask


def test_a_missing_folder_is_named_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=f"there is no folder {tmp_path / 'missing'}$"):
        check_target(tmp_path / "missing" / "model.onnx", force=True)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"):
        check_target(tmp_path / "file" / "model.onnx", force=True)


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="it is a folder"):
        check_target(tmp_path, force=True)


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_bytes(tmp_path / ("x" * 300), b"data", force=True)


def test_the_longest_possible_name_works(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("x" * 255), b"data", force=False)
    assert (tmp_path / ("x" * 255)).read_bytes() == b"data"


@NOT_ROOT
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="not writable"):
        check_target(tmp_path / "model.onnx", force=True)


def test_a_folder_that_is_closed_to_us_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `test_a_read_only_folder_is_refused`, where root runs the tests."""
    asked = []
    monkeypatch.setattr(os, "access", lambda *asked_for: asked.append(asked_for))
    with pytest.raises(OutputError, match=f"the folder {tmp_path} is not writable"):
        check_target(tmp_path / "model.onnx", force=True)
    assert asked == [(tmp_path, os.W_OK | os.X_OK)]


def test_a_fault_in_the_block_is_not_called_an_error_of_writing(tmp_path: Path) -> None:
    def fail() -> None:
        with write_atomic(tmp_path / "model.onnx", force=True):
            raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        fail()
    assert not list(tmp_path.iterdir())


def test_an_input_that_is_gone_protects_nothing(tmp_path: Path) -> None:
    """The output may be there or not."""
    target = tmp_path / "model.onnx"
    for data in (b"first", b"second"):
        write_bytes(target, data, force=True, protect=[tmp_path / "gone.onnx"])
        assert target.read_bytes() == data


@NEEDS_FULL_DEVICE
def test_a_full_device_is_one_line() -> None:
    with pytest.raises(OutputError, match="cannot write /dev/full: no space left on device"):
        write_bytes(Path("/dev/full"), b"data", force=False)


def test_a_device_is_written_without_force_and_stays_a_device() -> None:
    write_bytes(Path(os.devnull), b"data", force=False)
    assert Path(os.devnull).is_char_device()


def test_a_file_size_limit_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from compresskit.writers import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from compresskit.errors import OutputError\n"
        "try: write_bytes(Path(sys.argv[1]), bytes(100_000), force=False)\n"
        "except OutputError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "model.onnx"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("model.onnx: file too large\n")
    assert not list(tmp_path.iterdir())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from compresskit import writers
step, target = sys.argv[1:]
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
if step == "write":
    with writers.write_atomic(Path(target), force=True) as stream:
        stream.write(b"half"); stream.flush(); die()
setattr(os, step, die)
writers.write_bytes(Path(target), b"new", force=True)
"""


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_killed_at_any_step_the_target_is_old_and_a_rerun_succeeds(tmp_path: Path, step: str, old: bytes | None) -> None:
    target = tmp_path / "model.onnx"
    if old is not None:
        target.write_bytes(old)
    assert subprocess.run([sys.executable, "-c", KILLED_AT, step, target]).returncode == -9
    assert (target.read_bytes() if target.exists() else None) == old
    write_bytes(target, b"new", force=True)
    assert target.read_bytes() == b"new"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bytes_are_not_written_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Terminal())
    with pytest.raises(UsageError, match="not written to a terminal"):
        write_bytes(STDOUT, b"data", force=False)


def test_the_standard_output_gets_the_bytes_as_they_are(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    data = bytes(range(256))
    write_bytes(STDOUT, data, force=False)
    assert capfdbinary.readouterr().out == data


def test_a_closed_standard_output_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(OutputError, match="it is closed"):
        write_bytes(STDOUT, b"data", force=False)


class Broken(io.BytesIO):
    """A stream that fails to be flushed."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (OSError(28, "No space left on device"), OutputError, "^cannot write the standard output: no space left on device$"),
        (OSError(), OutputError, "^cannot write the standard output: oserror$"),
        (BrokenPipeError(32, "Broken pipe"), BrokenPipeError, "Broken pipe"),
    ],
)
def test_a_standard_output_that_fails(error: OSError, kind: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SimpleNamespace(buffer=Broken(error), isatty=lambda: False)
    monkeypatch.setattr("sys.stdout", stream)
    with pytest.raises(kind, match=said):
        write_bytes(STDOUT, b"data", force=False)
    assert stream.buffer.getvalue() == b"data"


WRITES_TO_STDOUT = """
import os, sys
from compresskit.writers import STDOUT, write_bytes
try:
    write_bytes(STDOUT, b"data", force=False)
except Exception as error:
    print(type(error).__name__, error, file=sys.stderr, flush=True)
os._exit(0)
"""


@NEEDS_FULL_DEVICE
def test_a_full_standard_output_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", WRITES_TO_STDOUT], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.stderr == "OutputError cannot write the standard output: no space left on device\n"


def test_a_reader_that_left_is_told_apart() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run([sys.executable, "-c", WRITES_TO_STDOUT], stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert done.stderr.startswith("BrokenPipeError ")
