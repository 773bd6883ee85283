"""A fitted predictor as a JSON file, and back: the trees in XGBoost's own JSON, and beside them what turns a problem into their columns. No pickle.

{"format": "compresskit predictor", "schema": 1, "sha256": of the rest, "body": {"booster": ..., "scaling": ..., ...}}
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compresskit.data.files import read_bytes
from compresskit.errors import InputError
from compresskit.recommend.predictor import Margins, Predictor, Predictors
from compresskit.recommend.settings import Setting
from compresskit.recommend.table import Problem
from compresskit.recommend.trees import TreeConfig
from compresskit.recommend.vectors import SETTING_NAMES, Scaling, names
from compresskit.writers import write_bytes

FORMAT = "compresskit predictor"
SCHEMA = 1
MAX_BYTES = 200_000_000
_PARTS = ("informed", "blind")
SHIPPED = Path(__file__).with_name("weights") / "cifar10.json"


def write_predictors(predictors: Predictors, path: Path, *, force: bool = False) -> int:
    """Write `predictors`; return the number of bytes.

    Raises:
        OutputError: they cannot be written.
    """
    body = {name: _encoded(getattr(predictors, name)) for name in _PARTS}
    data = json.dumps({"format": FORMAT, "schema": SCHEMA, "sha256": _digest(body), "body": body}, allow_nan=False).encode()
    write_bytes(path, data, force=force)
    return len(data)


def _encoded(predictor: Predictor) -> dict[str, Any]:
    return {
        "booster": json.loads(predictor.booster.save_raw("json")),
        "columns": list(SETTING_NAMES),
        "scaling": asdict(predictor.scaling),
        "margins": asdict(predictor.margins),
        "problems": [_jsonable(asdict(problem)) for problem in predictor.problems],
        "settings": [[s.pruner, s.quantizer, s.sparsity, s.bits] for s in predictor.settings],
        "config": asdict(predictor.config),
    }


def read_predictors(path: Path) -> Predictors:
    """Read what `write_predictors` wrote.

    Raises:
        InputError: missing, damaged, of another schema, or not a predictor.
    """
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: larger than a predictor can be ({MAX_BYTES} bytes)")
    try:
        found = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a predictor: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{path}: not a predictor: expected what `recommend --train` writes")
    if found.get("schema") != SCHEMA:
        raise InputError(f"{path}: a predictor of schema {found.get('schema')!r}, where this release reads {SCHEMA}: train it anew")
    if found.get("sha256") != _digest(found.get("body")):
        raise InputError(f"{path}: damaged: its checksum does not match")
    try:
        return Predictors(**{name: _decoded(found["body"][name]) for name in _PARTS})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # XGBoost's own errors are ValueErrors
        raise InputError(f"{path}: damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error


def _decoded(body: dict[str, Any]) -> Predictor:
    import xgboost

    if tuple(body["columns"]) != SETTING_NAMES:
        raise ValueError("its columns are of another release")
    scaling = Scaling(**{name: tuple(values) for name, values in body["scaling"].items()})
    margins = Margins(**{name: tuple(values) for name, values in body["margins"].items()})
    booster = xgboost.Booster()
    booster.load_model(bytearray(json.dumps(body["booster"]).encode()))
    if tuple(booster.feature_names or ()) != names(scaling):
        raise ValueError("its trees have other columns than its features")
    if len(margins.widths) != len(margins.edges) + 1:
        raise ValueError("its intervals are incomplete")
    problems = tuple(Problem(**{**entry, "features": _floats(entry["features"])}) for entry in body["problems"])
    settings = tuple(Setting(*entry) for entry in body["settings"])
    return Predictor(booster, scaling, margins, problems, settings, TreeConfig(**body["config"]))


def _jsonable(problem: dict[str, Any]) -> dict[str, Any]:
    features = {name: value if math.isfinite(value) else None for name, value in problem["features"].items()}
    return {**problem, "features": features}


def _floats(features: dict[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in features.items()}


def _digest(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
