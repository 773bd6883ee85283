"""The metanetworks that ship."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compresskit.data import Dataset
from compresskit.errors import InputError
from compresskit.metaprune import shipped
from compresskit.metaprune.network import Metanetwork, save
from compresskit.metaprune.rewriting import rewritten
from compresskit.metaprune.shipped import read_metanetwork
from compresskit.models.graph import ModelGraph
from compresskit.training import evaluate, recalibrate_batchnorm

WEIGHTS = Path(shipped.__file__).parent / "weights"


def test_each_is_small() -> None:
    assert {path.name for path in WEIGHTS.iterdir()} == {f"{shipped.DEFAULT}.safetensors"}
    assert all(path.stat().st_size < 2_000_000 for path in WEIGHTS.iterdir())


def test_the_default_changes_a_network_that_it_never_saw_and_leaves_it_accurate(digits_net: ModelGraph, digits: Dataset) -> None:
    changed, unconverted = rewritten(digits_net, read_metanetwork(None))
    assert unconverted == ()
    assert not torch.equal(changed.module.get_parameter("conv1.weight"), digits_net.module.get_parameter("conv1.weight"))
    x = torch.from_numpy(digits.train.x).float() / 255
    recalibrate_batchnorm(changed.module, [((x - 0.3) / 0.4, torch.from_numpy(digits.train.y))])
    found = evaluate(changed.module, digits.validation, digits.normalization)
    assert found.accuracy is not None
    assert found.accuracy > 0.8


def test_a_file_of_ones_own_is_read(metanetwork: Metanetwork, tmp_path: Path) -> None:
    path = tmp_path / "meta.safetensors"
    path.write_bytes(save(metanetwork))
    assert save(read_metanetwork(str(path))) == save(metanetwork)
    path.write_bytes(save(metanetwork)[:-1])
    with pytest.raises(InputError, match=r"meta\.safetensors is no whole safetensors file"):
        read_metanetwork(str(path))
