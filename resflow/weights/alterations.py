"""Weights that were altered after training: quantised, cut to a few bits, pruned.

They are where their file says so: by the key `altered` of its metadata, or, without that key, by words of ALTERING in
its `note` or `origin`. They are, whatever a file says, where they are seen to have been stored in 8 bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

ALTERING = re.compile(
    r"(?<![a-z0-9])(?:(?:de|re)?quanti[sz](?:ed|ation)|[1-8][ -]?bits?|(?:u?int|fp|float)[48]"
    r"|pruned|pruning|sparsified|binari[sz]ed)(?![a-z0-9])",
    re.IGNORECASE,
)
UNALTERED = "no"  # a value of the key
LEVELS = 2**8
CHANNELS = 16  # of a kernel, that are looked at
STORED_IN_8_BITS = f"stored in 8 bits (in most kernels no channel has more than {LEVELS} different values)"


def find_alteration(altered: str, texts: Iterable[str], kernels: Iterable[np.ndarray]) -> str:
    """Say how weights were altered, by what the key and the other texts of their file say; empty where they were not.

    Kernels are those of convolutions, (rows, columns, inputs, outputs).
    """
    if altered and altered.lower() != UNALTERED:
        return altered
    if _are_stored_in_8_bits(kernels):
        return STORED_IN_8_BITS
    words = [] if altered else [match[0] for text in texts for match in ALTERING.finditer(text)]
    return ", ".join(dict.fromkeys(words))


def _are_stored_in_8_bits(kernels: Iterable[np.ndarray]) -> bool:
    """Tell whether most kernels take no more values than 8 bits can write, by tensor or by output channel.

    Only channels of many more weights can tell: as floats hardly two weights of a channel are equal.
    """
    few = [_most_values(kernel) <= LEVELS for kernel in kernels if kernel[..., :1].size > 2 * LEVELS]
    return 2 * sum(few) > len(few)


def _most_values(kernel: np.ndarray) -> int:
    """Return how many different values the channel with the most of them has."""
    outputs = kernel.shape[-1]
    channels = kernel[..., :: -(-outputs // CHANNELS)].reshape(kernel[..., 0].size, -1)
    return max(len(np.unique(channel)) for channel in channels.T)
