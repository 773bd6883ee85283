from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.codec.coin import CoinSymbols, quantize
from compresskit.codec.coinpayload import MAX_DEPTH, pack_coin, unpack_coin
from compresskit.codec.siren import init
from compresskit.codec.varint import pack_varint
from compresskit.errors import InputError


def symbols(bits: int, dims: int = 2, width: int = 6, depth: int = 3, channels: int = 3) -> CoinSymbols:
    return quantize(init(dims, width, depth, channels, 30.0, torch.Generator().manual_seed(bits)), bits)


@settings(max_examples=60)
@given(st.integers(1, 16), st.integers(1, 4), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4))
def test_a_network_is_unpacked_as_it_was_packed(bits: int, dims: int, width: int, depth: int, channels: int) -> None:
    packed = symbols(bits, dims, width, depth, channels)
    read, *sizes = unpack_coin(pack_coin(packed, width, depth), dims, channels)
    assert sizes == [width, depth]
    assert (read.lows, read.steps, read.fractions, read.bits) == (packed.lows, packed.steps, packed.fractions, packed.bits)
    for one, other in zip(read.symbols, packed.symbols, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("bits", [4, 16])
def test_wherever_it_is_cut_off_it_is_refused_or_decodes(bits: int) -> None:
    data = pack_coin(symbols(bits), 6, 3)
    refused = 0
    for end in range(len(data)):
        try:
            unpack_coin(data[:end], 2, 3)
        except InputError:
            refused += 1
    assert refused >= len(data) - 8  # the range coder reads zeros past its end


@pytest.mark.parametrize(
    ("width", "depth", "bits"), [(0, 1, 8), (4097, 1, 8), (1, 0, 8), (1, MAX_DEPTH + 1, 8), (1, 2**40, 8), (1, 1, 0), (1, 1, 17), (4096, 64, 8)]
)
def test_impossible_sizes_are_refused_before_anything_is_allocated(width: int, depth: int, bits: int) -> None:
    with pytest.raises(InputError, match="damaged bitstream: a COIN network of"):
        unpack_coin(b"".join(map(pack_varint, (width, depth, bits))) + bytes(99), 2, 3)


def test_a_few_bytes_are_no_large_network() -> None:
    with pytest.raises(InputError, match="a COIN network of 4009003 weights"):
        unpack_coin(b"".join(map(pack_varint, (1000, 5, 8))) + bytes(99), 1, 3)
