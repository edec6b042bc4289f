"""What a component may change for the whole process by mistake, and so for all others: noticed, and put back."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from advbench.api.executor import taint_process
from advbench.process.attributes import watched_attributes
from advbench.process.float32 import exact_float32
from advbench.process.forks import end_if_forked, forks
from advbench.process.image_formats import image_formats
from advbench.process.system_settings import settings_of_the_system
from advbench.process.torch_settings import settings_of_torch

__all__ = ["ProcessState", "calls_watched", "is_interruption", "process_kept"]

SETTINGS = (*settings_of_torch(), *settings_of_the_system(), image_formats())
"""Settings of the process, in the order in which they are put back."""

_MOST = 3
"""How many replaced functions a message names."""


class ProcessState:
    """What results, or the user, depend on in this process.

    Settings are compared with what they were when this was made; functions and classes with what they were when this
    process last began to watch them, which it does before it loads plugins.

    Attributes:
        settled: Whether nothing has run since all was put back that could have changed anything.
    """

    def __init__(self) -> None:
        self._values = tuple(setting.read() for setting in SETTINGS)
        self._forks = forks()
        self.settled = False

    @classmethod
    def now(cls) -> ProcessState:
        """The settings as they are."""
        return cls()

    def put_back(self) -> list[str]:
        """Makes all what it was; in words what had been changed.

        A process that a component has forked off this one ends here.
        """
        end_if_forked()
        # What has been replaced comes first: it may be what the rest of this needs.
        replaced = watched_attributes().put_back()
        more = f" and {len(replaced) - _MOST} more" if len(replaced) > _MOST else ""
        changed = [", ".join(replaced[:_MOST]) + more] if replaced else []
        for setting, before in zip(SETTINGS, self._values, strict=True):
            now = setting.read()
            if now != before:
                if setting.write is not None:
                    with contextlib.suppress(Exception):  # what cannot be put back is reported all the same
                        setting.write(before)
                if setting.matters(before, now):
                    told = setting.told(before, now)
                    changed.append(f"{setting.name} ({told})" if told else setting.name)
        if forks() != self._forks:
            self._forks = forks()
            changed.append("how many processes there are (by os.fork)")
        return changed


@contextlib.contextmanager
def process_kept(seed: int = 0) -> Iterator[ProcessState]:
    """Leaves the process as it was, so that nothing else runs otherwise for what a component did inside.

    Inside float32 is computed as such, whatever the process had set, and the global random generators begin at the
    same state each time, so that what draws from them does not depend on what ran before. Where a component has
    changed the process, the process is tainted.

    Args:
        seed: Of the global random generators, 0 or more.
    """
    with _global_randomness_kept(seed), exact_float32():
        before = ProcessState.now()
        try:
            yield before
        finally:
            if not before.settled and (changed := before.put_back()):
                taint_process(f"a component changed {' and '.join(changed)} for the whole process")


@contextlib.contextmanager
def calls_watched(who: str) -> Iterator[list[str]]:
    """Puts back what calls of components in the driver have changed, which taints it.

    Args:
        who: What messages call the components.

    Yields:
        A list that holds in the end what was changed, in words.
    """
    before, changed = ProcessState.now(), list[str]()
    try:
        yield changed
    finally:
        changed += before.put_back()
        if changed:
            taint_process(f"{who} changed {' and '.join(changed)} for the whole process")


def is_interruption(error: BaseException) -> bool:
    """Whether an exception is the user's Ctrl-C: a worker process ends at once then, so that a component raised it."""
    return isinstance(error, KeyboardInterrupt) and multiprocessing.parent_process() is None


@contextlib.contextmanager
def _global_randomness_kept(seed: int) -> Iterator[None]:
    """Lets the global generators of Python, numpy and torch begin at a fixed state, and puts theirs back."""
    on_gpus = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    before: tuple[Any, ...] = random.getstate(), np.random.get_state(), torch.get_rng_state()
    of_gpus = torch.cuda.get_rng_state_all() if on_gpus else []
    seed %= 2**32
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if on_gpus:
        torch.cuda.manual_seed_all(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
        if on_gpus:
            torch.cuda.set_rng_state_all(of_gpus)
