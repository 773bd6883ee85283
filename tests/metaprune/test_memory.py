"""What is said of memory is near to what is taken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MEASURING = """
import json, sys
from pathlib import Path

import torch
from torch import nn

from compresskit.metaprune.features import features
from compresskit.metaprune.graph import layout_of
from compresskit.metaprune.memory import needed_bytes
from compresskit.metaprune.network import Metanetwork, MetanetworkConfig
from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024

def rewrite(width, training, config):
    net = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, width))
    graph = graph_from_module(net, [TensorSpec("x", (None, 64))], source="net")
    layout, tensors = layout_of(graph), dict(graph.module.named_parameters())
    nodes, blocks = features(layout, {name: tensor.detach() for name, tensor in tensors.items()})
    metanetwork, before = Metanetwork(config), peak()
    with torch.set_grad_enabled(training):
        nodes, blocks = metanetwork(layout, nodes, blocks, thrifty=True)
        if training:
            sum(block.sum() for block in blocks).backward()
    return peak() - before, needed_bytes(config, layout, training=training)

torch.set_num_threads(1)
training, layers = json.loads(sys.argv[1])
rewrite(4, training, MetanetworkConfig(layers=layers, width=4))  # what a first run takes of everything
print(json.dumps(rewrite(512, training, MetanetworkConfig(layers=layers, width=64))))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak is read from /proc")
@pytest.mark.parametrize(("training", "layers"), [(False, 4), (True, 9)])
def test_what_is_said_to_be_needed_is_near_to_the_peak(training: bool, layers: int) -> None:
    """In a process of its own, in which glibc gives back at once what is freed, as it does with the large tensors of networks that matter."""
    environ = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", MEASURING, json.dumps([training, layers])]
    taken, said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environ).stdout)
    assert 0.7 < taken / said < 1.4, (taken, said)
