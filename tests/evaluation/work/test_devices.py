from __future__ import annotations

import pytest
import torch

from advbench.api import widest_float
from advbench.errors import UsageError
from advbench.evaluation.work.workspace import device_name, pick_device


def _with_devices(monkeypatch: pytest.MonkeyPatch, *, cuda: int, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("wanted", "cuda", "mps", "picked"),
    [
        ("auto", 0, False, "cpu"),
        ("auto", 0, True, "cpu"),
        ("auto", 2, True, "cuda:0"),
        ("cpu", 2, True, "cpu"),
        ("cuda", 2, False, "cuda:0"),
        ("cuda:1", 2, False, "cuda:1"),
        ("mps", 0, True, "mps"),
        ("mps", 2, True, "mps"),
    ],
)
def test_devices_are_picked_by_name(
    wanted: str, cuda: int, mps: bool, picked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_devices(monkeypatch, cuda=cuda, mps=mps)
    assert pick_device(wanted) == picked


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("mps", "--device mps: torch sees no GPU of a Mac here; use --device cpu or auto"),
        ("cuda", "--device cuda:0: torch sees no CUDA device here; use --device cpu or auto"),
        ("cuda:7", "--device cuda:7: torch sees no CUDA device here; use --device cpu or auto"),
        ("mps:0", "--device mps:0: must be auto, cpu, cuda, cuda:N or mps"),
        ("gpu", "--device gpu: must be auto, cpu, cuda, cuda:N or mps"),
    ],
)
def test_a_device_that_is_absent_is_an_error_of_one_line(
    wanted: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_devices(monkeypatch, cuda=0, mps=False)
    with pytest.raises(UsageError) as refused:
        pick_device(wanted)
    assert str(refused.value) == message


def test_device_names_say_whether_a_process_sees_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_devices(monkeypatch, cuda=0, mps=True)
    assert (device_name("cpu"), device_name("mps"), device_name("cuda:0")) == ("cpu", "mps", None)
    _with_devices(monkeypatch, cuda=0, mps=False)
    assert device_name("mps") is None


def test_the_widest_float_of_a_device() -> None:
    assert widest_float(torch.device("cpu")) == widest_float(torch.device("cuda", 1)) == torch.float64
    assert widest_float(torch.device("mps")) == torch.float32
