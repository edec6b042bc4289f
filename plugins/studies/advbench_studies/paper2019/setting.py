"""What the paper ran: datasets, attacks, defenses with their parameters, and the protocols of its reproduction."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import TypeAlias

__all__ = [
    "ADAPTIVE",
    "ATTACKS",
    "DATASETS",
    "DEFENSES",
    "FULL",
    "IMAGES",
    "PROTOCOLS",
    "AttackSetting",
    "DatasetSetting",
    "DefenseSetting",
    "Protocol",
    "Wanted",
    "is_retrained",
    "matches",
    "number",
    "parameters",
]

IMAGES = 1000
"""How many random test images of each dataset the paper attacked."""

ADAPTIVE = "adaptive"
"""The threat in which the attackers know the defense."""

FULL = "paper-full"
"""The suite of all test images of MNIST; every other suite of the paper takes 1,000."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Under which attacks a number was measured.

    Attributes:
        key: Its name in files.
        title: For headings.
        meaning: What it is, in a few sentences.
        modes: For attacks with modes, the parameters of a full spec that belongs to the protocol.
        wanted: Further parameters of these attacks in the paper.
        short: The title, for little room.
        threat: What the attackers know.
        images: How many images of each dataset are attacked; without, as many as in the paper.
        names: Names of attacks under the protocol, if they differ from those of the paper.
    """

    key: str
    title: str
    meaning: str
    modes: Mapping[str, Mapping[str, str]]
    wanted: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    short: str = ""
    threat: str = "oblivious"
    images: Mapping[str, int] = dataclasses.field(default_factory=dict)
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def has_budget(self) -> bool:
        """Whether FGSM and PGD have a fixed budget."""
        return self.modes["pgd"]["search"] == "none"

    def has(self, attack: str) -> bool:
        """Whether the full spec of an attack belongs to the protocol."""
        name, given = parameters(attack)
        given = {"variant": "original", **given}  # stored results of version 0.1.0 have no variant
        return all(given.get(key) == value for key, value in self.modes.get(name, {}).items())


_FOOLBOX2 = (
    "The attacks as in Foolbox 2.3.0 of December 2019, the paper's library. It took gradients of the mean loss over a "
    "batch, so that each step of DeepFool was too long by the number of samples that still ran, here up to 64, and 5 % "
    "longer. FGSM tries 1,000 steps up to {}. PGD starts at the clean image. CW had no such flaw; it is advbench's. An "
    "image that an attack never fools keeps its pixels here, and counts as robust if it is classified correctly; in "
    "Foolbox 2.3.0 its pixels were NaN."
)


def _foolbox2(key: str, title: str, max_eps: str, short: str) -> Protocol:
    modes = {
        "fgsm": {"search": "foolbox2", "max_eps": max_eps},
        "pgd": {"search": "foolbox2"},
        "deepfool": {"variant": "foolbox2"},
    }
    return Protocol(key, title, _FOOLBOX2.format(max_eps), modes, {"deepfool": {"batch": 64}}, short)


_BUDGET = {"fgsm": {"search": "none"}, "pgd": {"search": "none"}, "deepfool": {"variant": "original"}}

PROTOCOLS = (
    _foolbox2("foolbox2", "Foolbox 2.3 attacks", "1", "Foolbox\n2.3"),
    _foolbox2("foolbox2-0.3", "Foolbox 2.3 attacks, FGSM up to 0.3", "0.3", "FGSM\n≤ 0.3"),
    Protocol(
        "minimal",
        "minimal attacks",
        "The attacks of the paper: each of them, also FGSM and PGD, searches for the smallest perturbation that fools "
        "the undefended model. The resulting images are next to its decision boundary.",
        {"fgsm": {"search": "minimal"}, "pgd": {"search": "minimal"}, "deepfool": {"variant": "original"}},
        {"fgsm": {"max_eps": 1}, "pgd": {"max_eps": 1, "step_size": 0.01, "targets": 3}},
        "minimal",
    ),
    Protocol(
        "fixed",
        "fixed budget",
        "FGSM and PGD use their whole budget, L∞ 0.3 on MNIST and 8/255 on CIFAR-10. CW and DeepFool have no budget; "
        "they are the same minimal attacks as in the table before.",
        _BUDGET,
        short="fixed",
    ),
    Protocol(
        "adaptive",
        "adaptive attacks",
        "The attackers know the defense and attack it together with the model, with 10 draws of a stochastic defense "
        "for each gradient and 10 others for the score, on 200 images of MNIST and 100 of CIFAR-10. FGSM and PGD have "
        "the fixed budget; PGD counts the stronger of PGD and APGD for each image. CW and DeepFool may change an image "
        "as much as they need, so what counts is how far they had to go. CW has fewer steps than in the paper (MNIST 5 "
        "times 50, CIFAR-10 3 times 30), since a gradient through 10 draws of a slow defense takes a hundred times as "
        "long; an image that it leaves and DeepFool does not may only need more steps. Its images keep a margin of 1 "
        "beyond the boundary, since a stochastic defense restores half of the images on it.",
        _BUDGET,
        short="adaptive",
        threat=ADAPTIVE,
        images={"mnist": 200, "cifar10": 100},
        names={"pgd": "PGD, APGD"},
    ),
)


@dataclasses.dataclass(frozen=True)
class DatasetSetting:
    """A dataset of the paper.

    Attributes:
        key: Its name in specs.
        title: For people.
        baseline: The accuracy of the undefended model on clean images that the paper reports.
        eps: The L∞ budget of FGSM and PGD at a fixed budget.
        clusters: The paper's number of k-means clusters.
        size: Number of test images.
    """

    key: str
    title: str
    baseline: float
    eps: float
    clusters: int
    size: int = 10_000


DATASETS = (
    DatasetSetting("mnist", "MNIST", 0.99, 0.3, 16),
    DatasetSetting("cifar10", "CIFAR-10", 0.85, 8 / 255, 50),
)


@dataclasses.dataclass(frozen=True)
class AttackSetting:
    """An attack of the paper.

    Attributes:
        key: Its name in specs.
        title: For people.
        searches: Whether it has a budget that its minimal form searches; otherwise it is minimal by nature.
        parameters: What a full spec must say where it has the parameter, for the attack to be the paper's.
        step: The size of a step as a share of eps, at a fixed budget; None for an attack that has none.
    """

    key: str
    title: str
    searches: bool
    parameters: Mapping[str, float]
    step: float | None = None


ATTACKS = (
    AttackSetting("fgsm", "FGSM", True, {}),
    # The paper's library took Madry et al.'s step: eps/30, in a search at eps .3.
    AttackSetting("pgd", "PGD", True, {"steps": 40}, 1 / 30),
    AttackSetting("cw", "CW", False, {"search_steps": 5, "steps": 1000, "learning_rate": 0.005, "initial_const": 0.01}),
    AttackSetting("deepfool", "DeepFool", False, {"steps": 100}),
)


@dataclasses.dataclass(frozen=True)
class DefenseSetting:
    """A column of the paper's table.

    Attributes:
        key: Its name in files.
        title: For people.
        short: For people with little room.
        component: Its name in specs.
        wanted: The paper's parameters; None stands for the dataset's number of clusters.
    """

    key: str
    title: str
    short: str
    component: str
    wanted: Mapping[str, float | None]

    def parameters(self, dataset: DatasetSetting) -> dict[str, float]:
        """The parameters on a dataset."""
        return {key: dataset.clusters if value is None else value for key, value in self.wanted.items()}


DEFENSES = (
    DefenseSetting("none", "undefended", "none", "none", {}),
    DefenseSetting("jpeg", "JPEG", "JPEG", "jpeg", {"quality": 90}),
    DefenseSetting("gaussian", "Gaussian", "Gauss", "gaussian", {"sigma_x": 0, "sigma_y": 0.3}),
    DefenseSetting("kmeans", "k-means", "k-means", "kmeans", {"clusters": None}),
    DefenseSetting("tvm", "TVM", "TVM", "tvm", {"drop": 0.5, "weight": 0.03}),
    DefenseSetting("vqvae-0", "VQ-VAE 0", "VQ-VAE\n0", "vqvae", {"noise": 0}),
    DefenseSetting("vqvae-0.25", "VQ-VAE 0.25", "VQ-VAE\n0.25", "vqvae", {"noise": 0.25}),
    DefenseSetting("vqvae-0.75", "VQ-VAE 0.75", "VQ-VAE\n0.75", "vqvae", {"noise": 0.75}),
)
"""The eight columns of the paper's table: the undefended model, and seven defenses."""


@functools.lru_cache(maxsize=4096)  # a report asks about each of some hundred specs hundreds of times
def parameters(spec: str) -> tuple[str, Mapping[str, str]]:
    """A full spec's name and parameters as text; a chain of defenses has no name here, since the paper has none."""
    name, _, items = spec.partition(":")
    given = {key: value for key, _, value in (item.partition("=") for item in items.split(",")) if key}
    chained = "+" in name or any("+" in value and number(value) is None for value in given.values())
    return ("", {}) if chained else (name, given)


Wanted: TypeAlias = "Mapping[str, float | str]"
"""Parameters that a spec must have."""

_USUAL: dict[str, dict[str, float | str]] = {"vqvae": {"noise_kind": "gaussian", "hidden": 256, "words": 512}}
"""Parameters that a spec must have, if it names them, unless others are wanted: those of the paper."""


def matches(spec: str, component: str, wanted: Wanted) -> bool:
    """Whether a full spec is of a component with these parameters and otherwise as in the paper."""
    name, given = parameters(spec)
    usual = {key: value for key, value in _USUAL.get(component, {}).items() if key in given}
    return name == component and all(_is(given.get(key, ""), value) for key, value in {**usual, **wanted}.items())


def _is(text: str, expected: float | str) -> bool:
    if isinstance(expected, str):
        return text == expected
    value = number(text)
    return value is not None and math.isclose(value, expected)


def is_retrained(model: str) -> bool:
    """Whether a model's full spec names weights that do not come with advbench."""
    return parameters(model)[1].get("weights", "shipped") != "shipped"


def number(text: str) -> float | None:
    """The number that a spec writes, such as ``0.3``, ``1e-2`` or ``8/255``; None where it is none."""
    numerator, slash, denominator = text.partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        return None
