"""Trainings for the tests of recipes: jobs on data made up, and interruptions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from advbench.api import LabelledImages, Trainable, TrainingJob, TrainingProgress


def make_job(
    output: Path,
    data: Mapping[str, LabelledImages],
    models: Mapping[str, torch.nn.Module] | None = None,
    *,
    dataset: str,
    epochs: int,
    recipe: str = "onecycle",
) -> TrainingJob:
    """A job that finds its data and models among the given ones, by spec."""
    return TrainingJob(
        output=output,
        load_dataset=data.__getitem__,
        load_model=(models or {}).__getitem__,
        device=torch.device("cpu"),
        seed=0,
        epochs=epochs,
        recipe=recipe,
        dataset=dataset,
        report=lambda progress: None,
    )


def interrupt(component: Trainable, job: TrainingJob, step: int) -> None:
    """Trains until a step has been reported and a checkpoint is there, and leaves the checkpoint.

    On a slow machine, steps are reported between the checkpoints.
    """

    def report(progress: TrainingProgress) -> None:
        if progress.step >= step and job.checkpoint.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        component.train(dataclasses.replace(job, report=report))
    assert not job.output.exists()


def assert_interruption_changes_nothing(component: Trainable, job: TrainingJob, step: int) -> None:
    """Trains with and without an interruption, and compares the weights to the bit."""
    component.train(job)
    uninterrupted = job.output.read_bytes()
    job.output.unlink()
    interrupt(component, job, step)
    component.train(job)
    assert job.output.read_bytes() == uninterrupted
    assert not job.checkpoint.exists()
