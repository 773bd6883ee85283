from __future__ import annotations

import math
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from compresskit.errors import InputError
from compresskit.parallel import mapped


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_tasks_whoever_makes_them(jobs: int) -> None:
    tasks = [25.0, 16.0, 9.0, 4.0, 1.0]
    assert list(mapped(math.sqrt, tasks, jobs)) == [5, 4, 3, 2, 1]
    assert not multiprocessing.active_children()


def test_errors_pass_through_and_end_the_others() -> None:
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(mapped(math.sqrt, [-1.0, 1.0], 2))
    assert not multiprocessing.active_children()


def test_a_process_that_is_ended_from_outside_is_one_line() -> None:
    with pytest.raises(InputError, match="a process ended before its work did"):
        list(mapped(os._exit, [1, 1], 2))
    assert not multiprocessing.active_children()


SLEEPERS = """
import time
from compresskit.parallel import mapped

def sleep(seconds: float) -> None:
    print("asleep", flush=True)
    time.sleep(seconds)

if __name__ == "__main__":
    list(mapped(sleep, [300.0, 300.0], 2))
"""


def test_no_process_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline() for _ in range(2)] == ["asleep\n"] * 2
        parent.kill()
        # All of them write to one pipe, which ends with the last of them.
        assert parent.communicate(timeout=60) == ("", None)


def test_a_task_has_one_thread_and_no_others_lose_theirs() -> None:
    torch.set_num_threads(2)
    assert list(mapped(lambda _: torch.get_num_threads(), [0], 4)) == [1]
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
