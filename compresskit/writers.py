"""How every output is written: whole or not at all, never over the input, and never over another file without `force`."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from compresskit.errors import OutputError, UsageError

STDOUT: Literal["-"] = "-"
RESULTS = frozenset({".onnx", ".pt", ".safetensors", ".json", ".svg", ".pdf"})
"""Suffixes of models, reports and drawings; not .png, which may be a sample.

In a folder of data such files are of an earlier run, which --force may replace.
"""


def is_folder(name: str) -> bool:
    """Whether an output is a folder for files, not a file: it is there as one, or ends in a slash."""
    return name.endswith("/") or Path(name).is_dir()


def check_target(path: Path, *, force: bool, protect: Collection[Path] = ()) -> None:
    """Find out, before any work is done, whether `path` can be written.

    Args:
        path: the output.
        force: whether an existing file may be replaced.
        protect: files that are never replaced, `force` or not: the inputs. A folder stands for what is in it, but for `RESULTS`.

    Raises:
        UsageError: `path` exists and `force` is off, or is one of `protect`, or in one.
        OutputError: `path` is a folder, or its folder is missing, no folder, or closed to us.
    """
    with _output_errors(path):
        if any(_same_file(path, kept) for kept in protect):
            raise UsageError(f"{path} is an input, and inputs are never overwritten: name another file with -o")
        for kept in protect:
            if _is_part(path, kept):
                raise UsageError(f"{path} is in the input {kept}, and inputs are never overwritten: name a file elsewhere")
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder; name a file in it")
        if _is_device(path):
            return
        if path.exists() and not force:
            raise UsageError(f"{path} exists: use --force to replace it")
        folder = path.resolve().parent
        if not folder.is_dir():
            raise OutputError(f"cannot write {path}: there is no folder {folder}")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write {path}: the folder {folder} is not writable")


@contextlib.contextmanager
def write_atomic(path: Path, *, force: bool, protect: Collection[Path] = ()) -> Iterator[BinaryIO]:
    """Open `path` for writing such that it changes only once everything is written and on the disk.

    The bytes go to a temporary file in the same folder, which is synchronised and renamed. When anything at all is
    raised, Ctrl-C included, the temporary file is removed and `path` is as it was. A symbolic link stays, and
    the file that it points to is replaced. Devices and pipes have no contents to keep: they are written directly.

    Args:
        path, force, protect: as in `check_target`.

    Raises:
        UsageError, OutputError: as in `check_target`; OutputError too for any `OSError` in the `with` block.
    """
    check_target(path, force=force, protect=protect)
    with _output_errors(path):
        if _is_device(path):
            with path.open("wb") as stream:
                yield stream
            return
        target = path.resolve()
        temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            # It may have appeared while we worked.
            check_target(path, force=force, protect=protect)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    _sync_folder(target.parent)


def write_bytes(target: Path | Literal["-"], data: bytes, *, force: bool, protect: Collection[Path] = ()) -> None:
    """Write `data` to a file as `write_atomic` does, or to the standard output for "-".

    Raises:
        UsageError, OutputError: as in `write_atomic`; UsageError too when the standard output is a terminal.
        BrokenPipeError: the reader of the standard output went away.
    """
    if isinstance(target, Path):
        with write_atomic(target, force=force, protect=protect) as stream:
            stream.write(data)
        return
    if sys.stdout is None:
        raise OutputError("cannot write the standard output: it is closed")
    if sys.stdout.isatty():
        raise UsageError("binary output is not written to a terminal: redirect it, or name a file with -o")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write the standard output: {_reason(error)}") from error


@contextlib.contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        # pathlib before 3.13 reports a loop of symbolic links as a RuntimeError.
        if isinstance(error, RuntimeError) and "Symlink loop" not in str(error):
            raise
        raise OutputError(f"cannot write {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def _is_device(path: Path) -> bool:
    """Whether `path` is there and is neither a regular file nor a folder."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _same_file(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except FileNotFoundError:
        return False


def _is_part(path: Path, folder: Path) -> bool:
    """Whether `path` is there already, somewhere in `folder`, and may be one of the files for which that is read."""
    if not folder.is_dir():
        return False
    target = path.resolve()
    return target.is_file() and target.suffix.lower() not in RESULTS and target.is_relative_to(folder.resolve())


def _sync_folder(folder: Path) -> None:
    """Put the rename itself on the disk. The file is whole already, and some file systems cannot: a failure is no error."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
