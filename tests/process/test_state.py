"""What is seen of a change to the process, and that it is put back."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch
from tests import hostile_plugin

from advbench.process.exits import ProcessExitError, exits_refused
from advbench.process.state import ProcessState, isolated_process
from advbench.process.watching.attributes import WatchedAttributes, watch_attributes

IN_PROCESSES_OF_THEIR_OWN = ("core", "another", "files", "memory", "stdin", "stderr", "fork", "kernel", "warnings")


@pytest.mark.parametrize("how", [how for how in hostile_plugin.HOW if how not in IN_PROCESSES_OF_THEIR_OWN])
def test_a_change_is_named_and_restore(how: str) -> None:
    watch_attributes()
    with isolated_process() as process:
        hostile_plugin.change(how)
        (change,) = process.restore()
        assert hostile_plugin.HOW[how][1] in change
        assert process.restore() == []


def test_a_component_cannot_end_the_process_but_its_children_end_as_they_like() -> None:
    watch_attributes()
    process = ProcessState()
    with exits_refused():
        for leave in (lambda: os._exit(0), os.abort, lambda: os.execl("/bin/true", "true")):
            with pytest.raises(ProcessExitError, match=r"os\.(_exit|abort|execv)\("):
                leave()
        child = multiprocessing.get_context("fork").Process(target=os._exit, args=(7,))
        child.start()
        child.join()
        assert child.exitcode == 7
        spawned = multiprocessing.get_context("spawn").Process(target=os._exit, args=(8,))
        spawned.start()
        spawned.join()
        assert spawned.exitcode == 8
    assert process.restore() == []


@pytest.mark.slow
def test_what_torch_replaces_itself_is_no_change() -> None:
    watch_attributes()
    process = ProcessState()
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    torch.compile(network, backend="eager")(torch.ones(1, 2))
    torch.optim.Adam(network.parameters()).step()
    torch.func.vmap(torch.func.grad(lambda x: (x**2).sum()))(torch.ones(2, 2))
    assert process.restore() == []


@pytest.mark.slow
def test_libraries_that_a_component_loads_itself_are_no_change() -> None:
    script = """
from advbench.process.state import ProcessState
from advbench.process.watching.attributes import watch_attributes
watch_attributes()
process = ProcessState()
import torchvision.models, scipy.ndimage, scipy.optimize, PIL.Image, foolbox, skimage.restoration
from sklearn.cluster import KMeans
KMeans(2, n_init=1).fit([[0.0, 1.0], [1.0, 2.0], [3.0, 4.0]])
PIL.Image.init()
print(process.restore(), process.restore())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"


def test_a_descriptor_that_a_class_had_from_the_start_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    class Computed:
        def __get__(self, instance: object, owner: type) -> int:
            return 2

    class Base:
        def size(self) -> int:
            return 1

    class Made(Base):
        size = Computed()

    module = types.ModuleType("made_plugin")
    for made in (Base, Made):
        made.__module__ = "made_plugin"
        setattr(module, made.__name__, made)
    monkeypatch.setitem(sys.modules, "made_plugin", module)
    watched = WatchedAttributes()
    watched.include(frozenset({"made_plugin"}))
    Made.more = 1  # type: ignore[attr-defined]
    assert watched.changed() == []
    Made.size = Computed()
    assert [change.name for change in watched.changed()] == ["size"]


def test_a_later_run_watches_the_attributes_as_they_are_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin:
        scale: object = 2

        def size(self) -> int:
            return 1

        def same(self) -> int:
            return 1

    module = types.ModuleType("made_plugin")
    module.Plugin = Plugin  # type: ignore[attr-defined]
    Plugin.__module__ = "made_plugin"
    monkeypatch.setitem(sys.modules, "made_plugin", module)
    first = WatchedAttributes()
    first.include(frozenset({"made_plugin"}))
    second = WatchedAttributes(first)
    second.include(frozenset({"made_plugin"}))
    Plugin.size = Plugin.same  # type: ignore[method-assign]
    assert [change.name for change in second.changed()] == ["size"]
    Plugin.scale = len  # was a number, which is not watched
    third = WatchedAttributes(second)
    third.include(frozenset({"made_plugin"}))
    assert third.changed() == []
    Plugin.scale = max
    assert [change.name for change in third.changed()] == ["scale"]


def test_the_global_generators_begin_each_time_where_the_seed_says() -> None:
    torch.manual_seed(5)
    found = []
    for seed in (1, 1, 2):
        with isolated_process(seed):
            found.append((float(torch.rand(())), float(np.random.rand())))
            torch.manual_seed(9)
    assert found[0] == found[1] != found[2]
    after = torch.rand(())
    torch.manual_seed(5)
    assert after == torch.rand(()), "the user's own go on where they were"


def test_it_is_quick() -> None:
    watch_attributes()
    process = ProcessState()
    taken = []
    for _ in range(20):
        began = time.perf_counter()
        process.restore()
        taken.append(time.perf_counter() - began)
    assert min(taken) < 0.05  # some 0.001 where nothing else runs
