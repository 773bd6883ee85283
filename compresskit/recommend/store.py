"""Trials on disk while a sweep runs: a file each, named after what was asked, so that nothing is tried twice and a kill loses one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from compresskit.recommend.settings import Setting
from compresskit.recommend.table import TRIALS_SCHEMA, Trial
from compresskit.writers import write_bytes


@dataclass(frozen=True)
class Description:
    """All that a trial's result depends on.

    Attributes:
        problem: its name in the table.
        model: SHA-256 of the model's weights.
        data: SHA-256 of the samples.
        seed: of everything drawn.
    """

    problem: str
    model: str
    data: str
    setting: Setting
    budget: str
    seed: int = 0

    @property
    def address(self) -> str:
        """The same for the same description, in this release and every other of the same schema."""
        text = json.dumps({"schema": TRIALS_SCHEMA, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Store:
    """A folder of trials."""

    folder: Path

    def get(self, description: Description) -> Trial | None:
        """The trial, if it was done; a damaged file counts as none."""
        try:
            found = json.loads(self._path(description).read_bytes())
            return Trial(**{**found, "setting": Setting(**found["setting"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, description: Description, trial: Trial) -> None:
        """File a trial; it is there whole, or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        path = self._path(description)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps(asdict(trial)).encode(), force=True)

    def _path(self, description: Description) -> Path:
        return self.folder / description.address[:2] / f"{description.address}.json"
