"""What a component may change for the whole process by mistake, and so for all others: noticed, and put back."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from advbench.discovery.arithmetic import exact_float32, float32_settings, set_float32

__all__ = ["ProcessState", "is_interruption", "process_kept"]


@dataclasses.dataclass(frozen=True)
class ProcessState:
    """Settings of the process that results, or the user, depend on."""

    dtype: torch.dtype
    device: torch.device
    gradients: bool
    deterministic: bool
    float32: Mapping[str, Any]
    folder: str | None
    on_interrupt: Any

    @classmethod
    def now(cls) -> ProcessState:
        """What they are."""
        return cls(
            dtype=torch.get_default_dtype(),
            device=torch.get_default_device(),
            gradients=torch.is_grad_enabled(),
            deterministic=torch.are_deterministic_algorithms_enabled(),
            float32=float32_settings(),
            folder=_folder(),
            on_interrupt=signal.getsignal(signal.SIGINT),
        )

    def put_back(self) -> list[str]:
        """Makes them what they were; in words which had been changed."""
        now, changed = ProcessState.now(), []
        if now.dtype != self.dtype:
            torch.set_default_dtype(self.dtype)
            changed.append(f"torch's default dtype (to {now.dtype})")
        if now.device != self.device:
            torch.set_default_device(None if self.device.type == "cpu" else self.device)
            changed.append(f"torch's default device (to {now.device})")
        if now.gradients != self.gradients:
            torch.set_grad_enabled(self.gradients)
            changed.append(f"whether torch records gradients (to {now.gradients})")
        if now.deterministic != self.deterministic:
            torch.use_deterministic_algorithms(self.deterministic)
            changed.append(f"torch's choice of deterministic algorithms (to {now.deterministic})")
        if now.float32 != self.float32:
            set_float32(self.float32)
            told = (f"{name} to {value}" for name, value in now.float32.items() if self.float32.get(name) != value)
            changed.append(f"how torch computes float32 ({next(told, 'its settings contradict one another')})")
        if now.folder != self.folder and self.folder is not None:
            os.chdir(self.folder)
            changed.append(f"the working folder (to {now.folder})")
        # Only the main thread may set it, so that no other can have changed it.
        if now.on_interrupt != self.on_interrupt and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.on_interrupt or signal.SIG_DFL)
            changed.append("what Ctrl-C does")
        return changed


@contextlib.contextmanager
def process_kept() -> Iterator[ProcessState]:
    """Leaves the process as it was, so that nothing else runs otherwise for what a component did inside.

    Inside float32 is computed as such, whatever the process had set.
    """
    with exact_float32():
        before = ProcessState.now()
        try:
            yield before
        finally:
            before.put_back()


def is_interruption(error: BaseException) -> bool:
    """Whether an exception is the user's Ctrl-C: a worker process ends at once then, so that a component raised it."""
    return isinstance(error, KeyboardInterrupt) and multiprocessing.parent_process() is None


def _folder() -> str | None:
    """The working folder; None where it has been removed."""
    try:
        return os.getcwd()  # noqa: PTH109  as text, to be compared
    except OSError:
        return None
