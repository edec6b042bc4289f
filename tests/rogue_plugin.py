"""Components that fail outside an attack's or a defense's own work, each in the way that its parameter says."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from advbench.api import Attack, Budget, Dataset, Defense, LabelledImages, Model, Reporter, hookimpl, param

SHAPE = (1, 4, 4)


class UnreadableError(Exception):
    """An exception that cannot even say what it is."""

    def __str__(self):
        raise RuntimeError("no message")


def fail(how):
    if how == "raise":
        raise KeyError("rogue")
    if how == "exit":
        raise SystemExit(0)
    if how == "unreadable":
        raise UnreadableError


@dataclass(frozen=True)
class RogueDataset(Dataset):
    """Fails when it is loaded, keyed, or loads what it must not."""

    name = "rogue-data"
    image_shape = SHAPE
    num_classes = 3
    load_fails: str = param("no", help="how load() fails")
    digest_fails: str = param("no", help="how digest() fails")
    wrong: str = param("", help="what is wrong with the data")

    def ids(self):
        return range(6)

    def digest(self, sources):
        fail(self.digest_fails)
        return "rogue"

    def load(self, sources):
        fail(self.load_fails)
        print("a dataset that talks")
        images = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))
        labels, ids = torch.zeros(6, dtype=torch.int64), torch.arange(6)
        if self.wrong == "nan":
            images[0] = float("nan")
        if self.wrong == "range":
            images = images * 255
        if self.wrong == "dtype":
            images = images.double()
        if self.wrong == "labels":
            labels = labels + 3
        if self.wrong == "ids":
            ids = ids.flip(0)
        return "nothing" if self.wrong == "type" else LabelledImages(images, labels, ids)


@dataclass(frozen=True)
class RogueModel(Model):
    """Fails when its weights are asked for."""

    name = "rogue-model"
    image_shape = SHAPE
    num_classes = 3
    fails: str = param("exit", help="how weights_digest() fails")

    def load(self):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))

    def weights_digest(self):
        fail(self.fails)
        return "rogue"


@dataclass(frozen=True)
class RogueAttack(Attack):
    """Changes the model, dies with its process, or has an impossible budget."""

    name = "rogue-attack"
    how: str = param("weights", help="what it does")

    def passes(self):
        return "many" if self.how == "passes" else 1

    def budget(self):
        if self.how == "budget":
            return Budget("linf", float("nan"))
        return Budget("linf", 0.1)

    def run(self, model, images, labels, rng):
        if self.how == "weights":
            for weights in model.parameters():
                weights.data.neg_()
        if self.how == "train":
            model.train()
        if self.how == "die":
            os._exit(9)
        fail(self.how)
        return images.clone()


@dataclass(frozen=True)
class Talkative(Defense):
    """Prints."""

    name = "talkative"

    def apply(self, images, rng):
        print("a defense that talks")
        return images


@dataclass(frozen=True)
class OtherJson(Reporter):
    """Claims a suffix that is taken."""

    name = "other-json"
    suffix = ".json"

    def render(self, results):
        return "{}"


@dataclass(frozen=True)
class Failing(Reporter):
    """Cannot render."""

    name = "failing"
    suffix = ".fail"

    def render(self, results):
        raise ValueError("no ink")


@hookimpl
def register_datasets(register):
    register(RogueDataset)


@hookimpl
def register_models(register):
    register(RogueModel)


@hookimpl
def register_attacks(register):
    register(RogueAttack)


@hookimpl
def register_defenses(register):
    register(Talkative)


@hookimpl
def register_reporters(register):
    if os.environ.get("ROGUE_REPORTERS"):
        register(OtherJson)
        register(Failing)
