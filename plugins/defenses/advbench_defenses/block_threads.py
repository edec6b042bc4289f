"""Runs a function on blocks of a batch, one thread per block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["map_in_threads"]

Block = TypeVar("Block")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Block], Result], blocks: Sequence[Block]) -> list[Result]:
    """Applies a function to each block, several at a time, and returns the results in order.

    The number of threads is that of torch, and each torch operation inside uses one. Operations too small to be split
    well would spend their time on synchronisation; this way, each has a processor of its own.
    """
    count = torch.get_num_threads()
    if count == 1 or len(blocks) == 1:
        return [function(block) for block in blocks]
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as threads:
            return list(threads.map(function, blocks))
    finally:
        torch.set_num_threads(count)  # part of this setting is global to the process
