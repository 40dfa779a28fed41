"""Weights that were altered after training are known by what their file says, and by what is seen of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.weight_nets import found, tensors, written

from resflow.study.pretrained import Notes
from resflow.weights.alterations import STORED_IN_8_BITS, find_alteration


def kernel(seed: int, outputs: int = 32, inputs: int = 128) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (3, 3, inputs, outputs)).astype(np.float32)


def stored(values: np.ndarray, bits: int, by_channel: bool) -> np.ndarray:
    """Return what comes back of weights that were stored in so many bits, as TensorFlow Lite and PyTorch do."""
    axes = (0, 1, 2) if by_channel else None
    low, high = values.min(axes, keepdims=True), values.max(axes, keepdims=True)
    scale = (high - low) / (2**bits - 1)
    return (np.round((values - low) / scale) * scale + low).astype(np.float32)


@given(st.integers(0, 99), st.booleans(), st.integers(2, 8), st.integers(1, 70))
def test_eight_bits_are_seen_and_sixteen_are_not(seed: int, by_channel: bool, bits: int, outputs: int) -> None:
    whole = kernel(seed, outputs)
    assert find_alteration("", (), [stored(whole, bits, by_channel)]) == STORED_IN_8_BITS
    for kept in (whole, whole.astype(np.float16).astype(np.float32), stored(whole, 16, by_channel)):
        assert find_alteration("", (), [kept]) == ""


def test_single_layers_and_small_ones_tell_nothing() -> None:
    small = stored(kernel(1, inputs=4), 8, by_channel=False)
    zeros = np.zeros_like(kernel(2))
    assert find_alteration("", (), [kernel(1), kernel(2), zeros, small, small, small]) == ""
    assert find_alteration("", (), []) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("converted from 8-bit weights", "8-bit"),
        ("Quantised to uint8 per tensor, then dequantised", "Quantised, uint8, dequantised"),
        ("github.com/someone/Quantized_Resnet_FPGA", "Quantized"),
        ("pruned to 30 % of its weights", "pruned"),
        ("stored in 4 bits", "4 bits"),
        ("trained in 16 bits, kept in float32, unquantised", ""),
        ("float64 and int64", ""),
        ("torchvision's first weights", ""),
    ],
)
def test_words_of_a_note_tell_unless_the_key_does(text: str, words: str) -> None:
    assert find_alteration("", (text, ""), [kernel(1)]) == find_alteration("", ("", text), [kernel(1)]) == words
    assert find_alteration("no", (text, ""), [kernel(1)]) == ""
    assert find_alteration("cut in half", (text, ""), [kernel(1)]) == "cut in half"


def test_what_is_seen_stands_over_a_file_that_denies_it() -> None:
    assert find_alteration("no", (), [stored(kernel(1), 8, by_channel=True)]) == STORED_IN_8_BITS


def test_a_file_and_its_sidecar_say_where_weights_come_from(tmp_path: Path) -> None:
    silent = written(tmp_path, tensors())
    assert silent.notes == Notes()
    said = {"origin": "somebody's\n  server", "note": "the stem was pruned", "altered": "no"}
    assert written(tmp_path, tensors(), said).notes == Notes("somebody's server", "the stem was pruned")
    (tmp_path / "net.safetensors.json").write_text(json.dumps({"altered": None, "origin": "elsewhere"}))
    assert found(silent.path).notes == Notes("elsewhere", "the stem was pruned", "pruned")
