"""Latency tables as files: those that users name, and the cache of this machine."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from compresskit.errors import CompresskitError, InputError
from compresskit.models.graph import ModelGraph
from compresskit.models.latency_measure import Timer, blank_table, machine_name, measure_table
from compresskit.models.latency_operators import batch_of, factors_of, fingerprint, uses
from compresskit.models.latency_table import Table
from compresskit.progress import SILENT, Progress
from compresskit.runtime import versions
from compresskit.wording import first_line
from compresskit.writers import write_bytes

LARGEST = 1 << 21  # bytes of a table: some hundred operators


def read_table(path: Path) -> Table:
    """The table in a file.

    Raises:
        InputError: it cannot be read, is too large, or is damaged.
    """
    try:
        with path.open("rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise InputError(f"{path}: no latency table, but a device or a pipe")
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if len(data) > LARGEST:
        raise InputError(f"{path}: over {LARGEST} bytes: no latency table is so large")
    return parse_table(data, str(path))


def parse_table(data: bytes, name: str) -> Table:
    """The table that `Table.to_json` wrote.

    Args:
        name: for messages.

    Raises:
        InputError: it is damaged, or of another version of the format.
    """
    try:
        return Table.from_json(data.decode())
    except (InputError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: a corrupt latency table: {first_line(error)}; measure it again with --measure-table") from error


def write_table(table: Table, path: Path, *, force: bool) -> None:
    """Write `table`, whole or not at all.

    Raises:
        UsageError, OutputError: as `compresskit.writers.write_bytes`.
    """
    write_bytes(path, table.to_json().encode(), force=force)


def table_for(path: Path, graph: ModelGraph, *, factors: bool = False) -> tuple[Table, tuple[str, ...]]:
    """The table in a file that serves `graph`, and what a user should know about it.

    Args:
        factors: whether layers may become products of two; what a table of this machine lacks of these, it is for the caller to measure.

    Raises:
        InputError: as `read_table`; or an operator of `graph`, or a factor of one, is not in it; or by it `graph` takes no time.
    """
    table = read_table(path)
    calls, local = uses(graph, table.batch), is_local(table)
    try:
        table.check(calls)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if factors and not local and table.lacks(factors_of(calls)):
        raise InputError(f"{path}: it has no times of layers of lower rank: measure it again with --measure-table, or leave out --blocks lowrank")
    warnings = []
    if table.onnxruntime != (ours := versions()["onnxruntime"]):
        warnings.append(f"{path} was measured with ONNX Runtime {table.onnxruntime}, and this is {ours}: latencies may differ")
    if not local and fingerprint(calls) not in table.models:
        warnings.append(f"{path} was measured for other models: latencies are sums over operators, without what this model takes beside them")
    return table, tuple(warnings)


def is_local(table: Table) -> bool:
    """Whether what it predicts can be checked by measuring here."""
    return table.machine == machine_name() and table.onnxruntime == versions()["onnxruntime"]


def cached_table(
    graph: ModelGraph, *, factors: bool = False, threads: int = 1, batch: int = 1, timer: Timer | None = None, progress: Progress = SILENT
) -> Table:
    """A table of this machine and runtime that serves `graph`: from the user's cache as far as it goes, the rest measured and put there.

    A cache that is damaged, or cannot be written, is as good as none.

    Args:
        factors: whether it also serves what the layers would become as products of two.

    Raises:
        InputError: as `measure_table`.
    """
    blank = blank_table(threads=threads, batch=batch_of(graph, batch))
    path = cache_path(blank)
    try:
        known = read_table(path)
    except InputError:
        known = blank
    table = measure_table(graph, known, factors=factors, timer=timer, progress=progress)
    if table != known:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_table(table, path, force=True)
        except (CompresskitError, OSError) as error:
            progress.note(f"the latency table was not kept: {first_line(error)}")
    return table


def cache_path(table: Table) -> Path:
    """Where tables like `table` are kept: one file for each machine, runtime, number of threads and batch."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(home) if os.path.isabs(home) else Path(os.environ.get("HOME", "~")).expanduser() / ".cache"
    key = repr((table.machine, os.cpu_count(), table.onnxruntime, table.threads, table.batch))
    return folder / "compresskit" / f"latency-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
