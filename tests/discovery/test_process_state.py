"""What is seen of a change to the process, and that it is put back."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from tests import hostile_plugin

from advbench.discovery import ProcessState, process_kept
from advbench.discovery.attributes import watch_attributes

IN_PROCESSES_OF_THEIR_OWN = ("core", "another", "files", "memory", "stdin", "stderr", "fork", "kernel", "warnings")


@pytest.mark.parametrize("how", [how for how in hostile_plugin.HOW if how not in IN_PROCESSES_OF_THEIR_OWN])
def test_a_change_is_named_and_put_back(how: str) -> None:
    watch_attributes()
    with process_kept() as process:
        hostile_plugin.change(how)
        (told,) = process.put_back()
        assert hostile_plugin.HOW[how][1] in told
        assert process.put_back() == []


def test_what_torch_replaces_itself_is_no_change() -> None:
    watch_attributes()
    process = ProcessState.now()
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    torch.compile(network, backend="eager")(torch.ones(1, 2))
    torch.optim.Adam(network.parameters()).step()
    torch.func.vmap(torch.func.grad(lambda x: (x**2).sum()))(torch.ones(2, 2))
    assert process.put_back() == []


def test_the_global_generators_begin_each_time_where_the_seed_says() -> None:
    torch.manual_seed(5)
    found = []
    for seed in (1, 1, 2):
        with process_kept(seed):
            found.append((float(torch.rand(())), float(np.random.rand())))
            torch.manual_seed(9)
    assert found[0] == found[1] != found[2]
    after = torch.rand(())
    torch.manual_seed(5)
    assert after == torch.rand(()), "the user's own go on where they were"


def test_it_is_quick() -> None:
    watch_attributes()
    process = ProcessState.now()
    taken = []
    for _ in range(20):
        began = time.perf_counter()
        process.put_back()
        taken.append(time.perf_counter() - began)
    assert min(taken) < 0.05  # some 0.001 where nothing else runs
