"""What all benchmark scripts share: the machine, the versions, the command line and the JSON that they leave in `results/`."""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from compresskit.runtime import versions

RESULTS = Path(__file__).parent / "results"


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
