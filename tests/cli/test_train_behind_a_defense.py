"""``advbench train --defense``: images are transformed once, with progress, whatever interrupts the training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Called

Train = Callable[..., Called]

PLUGIN = """
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from advbench.api import Dataset, Defense, LabelledImages, Model, Trainable, hookimpl, param


class Made(Dataset):
    name = "made"
    image_shape = (1, 2, 2)
    num_classes = 2

    def load(self, sources):
        labels = torch.arange(5200) % 2
        return LabelledImages(torch.full((5200, 1, 2, 2), 51, dtype=torch.uint8), labels, torch.arange(5200))

    def ids(self, sources):
        return list(range(5200))


def log(word):
    with open("log", "a") as file:
        file.write(word + "\\n")


@dataclass(frozen=True)
class Shift(Defense):
    name = "shift"
    by: float = param(0.25, min=0, max=1, help="how much brighter")

    def apply(self, images, rng):
        log("apply")
        if os.environ.get("STOP") == str(Path("log").read_text().count("apply")):
            raise KeyboardInterrupt
        return images + self.by


class Learner(Trainable, Model):
    name = "learner"
    image_shape = (1, 2, 2)
    num_classes = 2
    recipes = {"plain": "adds up its images"}
    training_sets = ("made",)
    trains_behind_defenses = True

    def load(self):
        raise NotImplementedError

    def weights_digest(self):
        return "none"

    def train(self, job):
        images = job.defend(job.load_dataset("made"))
        if os.environ.get("STOP") == "training":
            job.checkpoint.write_text("x")
            raise KeyboardInterrupt
        job.output.write_text("weights")
        job.checkpoint.unlink(missing_ok=True)
        return {"sum": round(float(images.images.double().sum()), 3)}


@hookimpl
def register_datasets(register):
    register(Made)


@hookimpl
def register_defenses(register):
    register(Shift)


@hookimpl
def register_models(register):
    register(Learner)
"""
BATCHES, FULL, MORE = 21, 9360.0, 14560.0
"""The batches of two files of ten and one file of one; the sums of all pixels, shifted by 0.25 and by 0.5."""


@pytest.fixture
def train(call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugin.py").write_text(PLUGIN)

    def run(stop: str = "", *flags: object) -> Called:
        (tmp_path / "log").unlink(missing_ok=True)
        monkeypatch.setenv("STOP", stop)
        defense = () if "--defense" in flags else ("--defense", "shift")
        return call("train", "learner", *defense, "--plugin", "plugin.py", "--output", "w.safetensors", *flags)

    return run


def applied() -> int:
    return Path("log").read_text().count("apply") if Path("log").exists() else 0


def test_transforming_shows_its_progress_and_leaves_nothing(train: Train, tmp_path: Path) -> None:
    called = train()
    assert called.code == 0, called.err
    assert f"sum: {FULL}" in called.err
    lines = called.err.splitlines()
    assert "transforming 5,200 images with shift" in lines
    assert "transforming 5,200 of 5,200 images" in lines
    assert 9 <= sum(" of 5,200 images" in line for line in lines) <= 10
    assert applied() == BATCHES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "plugin.py", "w.safetensors"]


def test_a_resumed_training_does_not_transform_again(train: Train) -> None:
    stopped = train("training")
    assert stopped.code == 130
    assert "the checkpoint is w.checkpoint; transformed images are kept in w.defended" in stopped.err
    assert applied() == BATCHES
    resumed = train()
    assert resumed.code == 0, resumed.err
    assert f"sum: {FULL}" in resumed.err
    assert applied() == 0
    assert not Path("w.defended").exists()


def test_an_interruption_while_images_are_transformed_keeps_most_of_them(train: Train) -> None:
    stopped = train("15")
    assert stopped.code == 130
    assert "there is no checkpoint yet; transformed images are kept in w.defended" in stopped.err
    resumed = train()
    assert f"sum: {FULL}" in resumed.err
    assert applied() == BATCHES - 10


@pytest.mark.parametrize("other", [("--seed", 1), ("--defense", "shift:by=0.5"), ("damaged",), ("mixed up",)])
def test_images_of_another_training_are_not_used(train: Train, other: tuple[object, ...]) -> None:
    train("training")
    files = sorted(Path("w.defended").iterdir())
    assert len(files) == 3
    if other == ("damaged",):
        for file in files:
            file.write_bytes(file.read_bytes()[:-5])
    elif other == ("mixed up",):
        whole = max(files, key=lambda file: file.stat().st_size)
        for file in files:
            file.write_bytes(whole.read_bytes())
    resumed = train("", *(other if len(other) == 2 else ()))
    assert resumed.code == 0, resumed.err
    assert f"sum: {MORE if other[-1] == 'shift:by=0.5' else FULL}" in resumed.err
    assert applied() == (11 if other == ("mixed up",) else BATCHES)
    assert not Path("w.defended").exists()


def test_without_room_for_them_images_are_transformed_all_the_same(train: Train) -> None:
    Path("w.defended").write_text("mine")
    called = train()
    assert called.code == 0, called.err
    assert called.err.count("transformed images cannot be kept in w.defended (") == 1
    assert Path("w.defended").read_text() == "mine"
