"""How long recommendations take: `python tests/benchmarks/recommend_speed.py X.predictor RESNET20.safetensors CIFAR10.npz`.

recommend  the whole command on a ResNet that no trial used, in a process of its own, features included; wall clock, processor time, and its stages
predict    one setting, of all that are on offer
fit        both predictors anew from X.predictor.trials, the choice of the trees included

Times are medians, of the processor and of the wall clock: on a machine that others use too, the second says more about them. `aims` are
in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from common import RESULTS, heading, write

from compresskit.recommend.predictor import fit_both
from compresskit.recommend.predictor_file import read_predictors
from compresskit.recommend.table import read_table
from compresskit.runtime import set_threads

AIMS = {"recommend": 30.0, "predict": 0.002, "fit": 30.0}
THREADS = 2
MEAN, STD = "0.4914,0.4822,0.4465", "0.2023,0.1994,0.2010"


def timed(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median seconds of this process."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"wall": median(walls), "cpu": median(cpus)}


def command(predictor: Path, model: Path, data: Path) -> dict[str, Any]:
    """One `compresskit recommend`."""
    arguments = [str(model), "--arch", "resnet20", "--data", str(data), "--mean", MEAN, "--std", STD, "--compression", "20", "--json"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    asked = [sys.executable, "-m", "compresskit.cli", "recommend", *arguments, "--predictor", str(predictor), "--threads", str(THREADS)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "stages": json.loads(done.stdout)["stages"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictor", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=RESULTS / "recommend_speed.json")
    options = parser.parse_args()
    set_threads(1)
    predictor = read_predictors(options.predictor).informed
    problem, settings = replace(predictor.problems[0], name="new"), predictor.settings
    whole = timed(lambda: predictor.predict(problem, settings), 9)
    table = read_table(options.predictor.with_name(options.predictor.name + ".trials"))
    found: dict[str, Any] = {
        "load": os.getloadavg(),
        "recommend": command(options.predictor, options.model, options.data),
        "predict": {name: seconds / len(settings) for name, seconds in whole.items()},
        "fit": timed(lambda: fit_both(table), 1),
    }
    met = {name: {clock: found[name][clock] < aim for clock in ("wall", "cpu")} for name, aim in AIMS.items()}
    result = {**heading(THREADS, "xgboost-cpu"), "trials": len(table.trials), "settings": len(settings), **found, "aims": AIMS, "met": met}
    write(options.output, result)
    print(json.dumps({name: found[name] for name in AIMS}, indent=2))


if __name__ == "__main__":
    main()
