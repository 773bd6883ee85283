"""What all benchmark scripts share: the machine, the versions, the command line and the JSON that they leave in `results/`, row by row."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from compresskit.runtime import versions

RESULTS = Path(__file__).parent / "results"

Row = dict[str, Any]
Key = TypeVar("Key", bound=Hashable)


def cpu() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def heading(threads: int, *peers: str) -> dict[str, Any]:
    """How a result was made: the command (files by name only), versions of ours and of `peers`, and the machine."""
    arguments = [Path(argument).name if "/" in argument else argument for argument in sys.argv[1:]]
    command = " ".join(["python", f"tests/benchmarks/{Path(sys.argv[0]).name}", *arguments])
    return {
        "command": command,
        "versions": {**versions(), **{peer: metadata.version(peer) for peer in peers}},
        "machine": {"cpu": cpu(), "threads": threads},
    }


def write(path: Path, result: dict[str, Any]) -> None:
    """Write `result` whole, or leave the file as it was."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=2) + "\n")
    temporary.replace(path)


def collect(
    output: Path,
    threads: int,
    common: Mapping[str, Any],
    jobs: Iterable[tuple[Key, Callable[[], Row]]],
    key: Callable[[Row], Key],
    summary: Callable[[list[Row]], Mapping[str, Any]],
    *,
    peers: Sequence[str] = (),
    again: Callable[[Row], bool] = lambda _: False,
) -> list[Row]:
    """Run the jobs whose rows are not in `output` yet, writing after each; return all rows.

    Args:
        common: what is the same for all rows; a file with other settings is left alone.
        key: of a row: which job made it.
        summary: of all rows, for the file.
        peers: packages that took part, for the heading.
        again: whether a row that is there is to be measured anew.
    """
    settings = json.loads(json.dumps(common))
    old = json.loads(output.read_text()) if output.exists() else {"common": settings, "rows": []}
    if old["common"] != settings:
        sys.exit(f"{output} holds runs with other settings: remove it, or give another --output")
    rows: list[Row] = [row for row in old["rows"] if not again(row)]
    done = {key(row) for row in rows}
    for name, job in jobs:
        if name in done:
            continue
        rows.append(job())
        print(rows[-1], file=sys.stderr, flush=True)
        write(output, {**heading(threads, *peers), "common": settings, **summary(rows), "rows": rows})
    return rows
