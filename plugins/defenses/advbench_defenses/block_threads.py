"""Blocks of a batch in threads of their own, each computing alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["over_blocks"]

Block = TypeVar("Block")
Made = TypeVar("Made")


def over_blocks(function: Callable[[Block], Made], blocks: Sequence[Block]) -> list[Made]:
    """What a function makes of each block, in their order; several at a time.

    As many threads work as torch is given, and each of torch's operations then has one. Operations too small to be
    shared well, which would spend their time on waking and waiting, so have whole processors.
    """
    count = torch.get_num_threads()
    if count == 1 or len(blocks) == 1:
        return [function(block) for block in blocks]
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as threads:
            return list(threads.map(function, blocks))
    finally:
        torch.set_num_threads(count)  # a part of the setting is the whole process's
