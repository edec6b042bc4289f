"""Detects and undoes changes that a component makes to the whole process, and so to all other components."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from advbench.api.executor import taint_process
from advbench.process.float32 import exact_float32
from advbench.process.forks import exit_if_forked_child, fork_count
from advbench.process.settings.image_formats import image_format_setting
from advbench.process.settings.system_settings import system_settings
from advbench.process.settings.torch_settings import torch_settings
from advbench.process.watching.attributes import watched_attributes

__all__ = ["ProcessState", "is_user_interrupt", "isolated_process", "undo_process_changes"]

SETTINGS = (*torch_settings(), *system_settings(), image_format_setting())
"""The settings of the process, in the order in which they are restored."""

_MAX_NAMES = 3
"""How many replaced functions a message names."""


class ProcessState:
    """The state of this process on which results depend, when this object is created.

    Settings are compared with their values at that time; functions and classes with their values when
    :func:`~advbench.process.watching.attributes.watch_attributes` was last called, which is before plugins are loaded.

    Attributes:
        restored: Whether the state has been restored, and no component has run since.
    """

    def __init__(self) -> None:
        self._values = tuple(setting.read() for setting in SETTINGS)
        self._forks = fork_count()
        self.restored = False

    def restore(self) -> list[str]:
        """Restores the state; returns descriptions of what had been changed.

        A child process that a component has forked ends here.
        """
        exit_if_forked_child()
        # Replaced functions come first, since the following may call them.
        replaced = watched_attributes().restore()
        more = f" and {len(replaced) - _MAX_NAMES} more" if len(replaced) > _MAX_NAMES else ""
        changed = [", ".join(replaced[:_MAX_NAMES]) + more] if replaced else []
        for setting, before in zip(SETTINGS, self._values, strict=True):
            now = setting.read()
            if now != before:
                if setting.write is not None:
                    with contextlib.suppress(Exception):  # a change that cannot be undone is still reported
                        setting.write(before)
                if setting.matters(before, now):
                    details = setting.describe(before, now)
                    changed.append(f"{setting.name} ({details})" if details else setting.name)
        if fork_count() != self._forks:
            self._forks = fork_count()
            changed.append("the number of processes (by os.fork)")
        return changed


@contextlib.contextmanager
def isolated_process(seed: int = 0) -> Iterator[ProcessState]:
    """Runs components in a defined state of the process, and restores the previous state afterwards.

    Within the block float32 has full precision, and the global random generators start from the same state each time,
    so that results do not depend on what ran before. If a component changes the process, the process is tainted.

    Args:
        seed: The seed of the global random generators, 0 or more.

    Yields:
        The state of the process at the start of the block.
    """
    with _seeded_global_generators(seed), exact_float32():
        state = ProcessState()
        try:
            yield state
        finally:
            if not state.restored and (changes := state.restore()):
                taint_process(f"a component changed {' and '.join(changes)} for the whole process")


@contextlib.contextmanager
def undo_process_changes(label: str) -> Iterator[list[str]]:
    """Undoes what calls of components in the driver change in the process, and taints the process.

    Args:
        label: What messages call the components.

    Yields:
        A list that contains descriptions of the changes after the block.
    """
    state, changes = ProcessState(), list[str]()
    try:
        yield changes
    finally:
        changes += state.restore()
        if changes:
            taint_process(f"{label} changed {' and '.join(changes)} for the whole process")


def is_user_interrupt(error: BaseException) -> bool:
    """Whether an exception is the user's Ctrl-C; in a worker process, which Ctrl-C ends, a component has raised it."""
    return isinstance(error, KeyboardInterrupt) and multiprocessing.parent_process() is None


@contextlib.contextmanager
def _seeded_global_generators(seed: int) -> Iterator[None]:
    """Seeds the global generators of Python, numpy and torch, and restores their state afterwards."""
    on_gpus = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    before: tuple[Any, ...] = random.getstate(), np.random.get_state(), torch.get_rng_state()
    of_gpus = torch.cuda.get_rng_state_all() if on_gpus else []
    on_mps = torch.backends.mps.is_available()
    of_mps = torch.mps.get_rng_state() if on_mps else None
    seed %= 2**32
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if on_gpus:
        torch.cuda.manual_seed_all(seed)
    if on_mps:
        torch.mps.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
        if on_gpus:
            torch.cuda.set_rng_state_all(of_gpus)
        if of_mps is not None:
            torch.mps.set_rng_state(of_mps)
