"""Each worker process sees the GPU that it may use."""

from __future__ import annotations

import os

import pytest

from advbench.executors.spawn import visible_gpus
from advbench.executors.workers import ProcessPool


def test_gpus_are_shared_out_among_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [visible_gpus(number, 2) for number in range(3)] == [{"CUDA_VISIBLE_DEVICES": device} for device in "010"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    assert visible_gpus(1, 2) == {"CUDA_VISIBLE_DEVICES": "GPU-b"}
    assert visible_gpus(1, 0) == {}


def test_a_worker_sees_one_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    pool = ProcessPool(2, gpus=2)
    seen = pool.everywhere(os.getenv, "CUDA_VISIBLE_DEVICES")
    pool.shutdown()
    assert seen == {"worker 0": "5", "worker 1": "7"}
