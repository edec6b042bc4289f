"""Blocks in threads: each computes alone, in order, and the process's own setting is as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from advbench_defenses.block_threads import map_in_threads


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_blocks_run_in_parallel_with_one_thread_each() -> None:
    together = threading.Barrier(3, timeout=30)  # passed only where three are under way

    def compute(block: int) -> tuple[int, int, bool]:
        together.wait()
        return block, torch.get_num_threads(), threading.current_thread() is threading.main_thread()

    assert map_in_threads(compute, [4, 5, 6]) == [(4, 1, False), (5, 1, False), (6, 1, False)]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_an_error_is_raised_and_the_thread_count_restored() -> None:
    with pytest.raises(ZeroDivisionError):
        map_in_threads(lambda block: 1 // block, [1, 0, 2])
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_a_single_block_uses_all_threads() -> None:
    assert map_in_threads(lambda _: torch.get_num_threads(), [1]) == [3]
