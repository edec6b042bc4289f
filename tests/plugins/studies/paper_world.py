"""A made-up world in which every claim of the paper holds, to be changed by tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from advbench_studies.paper2019.evidence import SuiteResults
from advbench_studies.paper2019.reproduction import build_reproduction
from advbench_studies.paper2019.resampling import RESAMPLES, Outcomes
from advbench_studies.paper2019.setting import FULL, PROTOCOLS

DATASETS = {"mnist": ("mnist:split=test", "mnist-cnn"), "cifar10": ("cifar10:split=test", "cifar10-densenet")}
IMAGES = {"mnist": 200, "cifar10": 100}
EPS = {"mnist": "0.3", "cifar10": "8/255"}
ATTACKS = ("fgsm", "pgd", "cw", "deepfool")
SPECS = {
    "minimal": {
        "fgsm": "fgsm:eps=none,search=minimal,max_eps=1",
        "pgd": "pgd:eps=none,steps=40,search=minimal,max_eps=1",
        "cw": "cw:search_steps=5,steps=1000,learning_rate=0.005,initial_const=0.01,confidence=0",
        "deepfool": "deepfool:steps=100,candidates=10,overshoot=0.02,norm=l2",
    }
}
for key, max_eps in (("foolbox2", "1"), ("foolbox2-0.3", "0.3")):
    SPECS[key] = SPECS["minimal"] | {
        "fgsm": f"fgsm:search=foolbox2,max_eps={max_eps}",
        "pgd": "pgd:steps=40,step_size=none,search=foolbox2",
        "deepfool": "deepfool:steps=100,candidates=10,variant=foolbox2,batch=64,reduction=mean",
    }
SPECS["fixed"] = SPECS["minimal"] | {"fgsm": "fgsm:eps={eps},search=none", "pgd": "pgd:eps={eps},steps=40,search=none"}
SPECS["adaptive"] = SPECS["fixed"]
ADAPTIVE = "paper-adaptive"
SUITES = {
    "adaptive": ADAPTIVE,
    "minimal": "paper",
    "fixed": "paper-fixed",
    "foolbox2": "paper-foolbox2",
    "foolbox2-0.3": "paper-foolbox2",
}
DEFENSES = {
    "none": "none",
    "jpeg": "jpeg:quality=90",
    "gaussian": "gaussian:sigma=0.5,sigma_x=0,sigma_y=0.3",
    "kmeans": "kmeans:clusters={clusters},iterations=100",
    "tvm": "tvm:drop=0.5,weight=0.03,iterations=100",
    "vqvae-0": "vqvae:noise=0,noise_kind=gaussian,hidden=256,words=512,weights=shipped",
    "vqvae-0.25": "vqvae:noise=0.25,noise_kind=gaussian,hidden=256,words=512,weights=shipped",
    "vqvae-0.75": "vqvae:noise=0.75,weights=shipped",  # as in stored results of version 0.1.0
}
GRID = [
    f"vqvae:noise=0,noise_kind=gaussian,hidden={hidden},words={words},weights=w/x.safetensors"
    for hidden, words in ((128, 512), (128, 256), (256, 256))
]
UNIFORM, SALT_AND_PEPPER = (
    f"vqvae:noise={noise},hidden=256,words=512,weights=w/x.safetensors"
    for noise in ("0.433,noise_kind=uniform", "0.03,noise_kind=salt-and-pepper")
)
CLUSTERS = {"mnist": 16, "cifar10": 50}
ROBUST = {
    "mnist": {
        "none": (0, 0, 0, 0), "jpeg": (0.985, 0.995, 0.99, 0.06), "gaussian": (0.40, 0.45, 0.42, 0.03),
        "kmeans": (0.60, 0.65, 0.62, 0.05), "tvm": (0.80, 0.85, 0.82, 0.08), "vqvae-0": (0.30, 0.35, 0.32, 0.02),
        "vqvae-0.25": (0.33, 0.38, 0.35, 0.03), "vqvae-0.75": (0.36, 0.41, 0.38, 0.04),
    },
    "cifar10": {
        "none": (0, 0, 0, 0), "jpeg": (0.60, 0.66, 0.62, 0.05), "gaussian": (0.20, 0.25, 0.22, 0.02),
        "kmeans": (0.40, 0.45, 0.42, 0.03), "tvm": (0.72, 0.75, 0.73, 0.06), "vqvae-0": (0.20, 0.25, 0.22, 0.04),
        "vqvae-0.25": (0.20, 0.25, 0.22, 0.04), "vqvae-0.75": (0.19, 0.24, 0.21, 0.04),
    },
}  # fmt: skip
CLEAN = {"mnist": 0.99, "cifar10": 0.85}
L2 = {"fgsm": 2.5, "pgd": 1.9, "cw": 1.6, "deepfool": 3.0}
CONCENTRATED = [[100, 60, 0], [0, 160, 0], [0, 0, 160]]
SPREAD = [[100, 10, 10], [10, 100, 10], [10, 10, 100]]


def threat(suite: str) -> str:
    """What the attackers of a suite know."""
    return "adaptive" if suite == ADAPTIVE else "oblivious"


class Exact(Outcomes):
    """Outcomes whose numbers are the same on other images, so that the numbers of the cells alone decide."""

    def resampled(self, measure: str) -> Any:
        values = {"robust_accuracy": self.robust, "clean_accuracy": self.clean, "median_l2": self.l2}[measure]
        return np.full(RESAMPLES, np.nanmean(values))


class World:
    """Numbers by (suite, dataset, attack's full spec, defense's full spec), which become results."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        self.confusions: dict[tuple[str, str, str], list[list[int]]] = {}
        self.outcomes_of_all = False  # else of JPEG on MNIST alone
        self.fooled: int | None = None  # how many images fool the model; all of them without
        self.moved = (0.5, 0.25)  # shares of pixels moved to 0 or 255 where JPEG fails, and where it does not
        for dataset in DATASETS:
            for protocol, suite in SUITES.items():
                for place, attack in enumerate(ATTACKS):
                    for defense, robust in ROBUST[dataset].items():
                        n = IMAGES[dataset] if suite == ADAPTIVE else 1000
                        self.add(suite, dataset, protocol, attack, self.defense(dataset, defense), robust[place], n)
                    if suite != ADAPTIVE:
                        self._ablate(dataset, protocol, place)
        for protocol in [key for key in SPECS if key != "adaptive"]:
            for attack in ("fgsm", "deepfool"):
                for defense in ("none", "jpeg"):
                    value = ROBUST["mnist"][defense][ATTACKS.index(attack)]
                    self.add(FULL, "mnist", protocol, attack, self.defense("mnist", defense), value + 0.005, n=10_000)

        for dataset, clean in (("mnist", 0.999), ("cifar10", 0.9)):
            suite = f"paper-retrained-{dataset}"
            self.add(suite, dataset, "fixed", "fgsm", self.defense(dataset, "vqvae-0"), 0.5)
            key = next(key for key in self.cells if key[0] == suite)
            model = f"{DATASETS[dataset][1]}:weights=w/behind.safetensors"
            self.cells[key] |= {"model": model, "clean_accuracy": clean}

    def _ablate(self, dataset: str, protocol: str, place: int) -> None:
        attack, best = ATTACKS[place], ROBUST[dataset]
        for quality in (25, 95):
            self.add(
                "paper-ablations", dataset, protocol, attack, f"jpeg:quality={quality}", best["jpeg"][place] - 0.01
            )
        for clusters, share in ((4, 0.5), (8, 0.9), (100, 0.6)):
            self.add(
                *("paper-ablations", dataset, protocol, attack, f"kmeans:clusters={clusters},iterations=100"),
                best["kmeans"][place] * share,
            )
        noise = "vqvae:noise=1.5,weights=shipped"
        self.add("paper-noise", dataset, protocol, attack, noise, best["vqvae-0.75"][place] - 0.01)
        if dataset == "mnist":
            for variant in GRID:
                self.add("paper-vqvae", dataset, protocol, attack, variant, best["vqvae-0"][place] - 0.01)
            for variant in (UNIFORM, SALT_AND_PEPPER):
                self.add("paper-vqvae", dataset, protocol, attack, variant, best["vqvae-0.25"][place] + 0.02)

    def add(
        self, suite: str, dataset: str, protocol: str, attack: str, defense: str, robust: float, n: int = 1000
    ) -> None:
        spec = self.attack(dataset, protocol, attack)
        minimal = protocol not in ("fixed", "adaptive") or attack in ("cw", "deepfool")
        full, model = DATASETS[dataset]
        self.cells[suite, dataset, spec, defense] = {
            "dataset": full, "model": model, "attack": spec, "threat": threat(suite), "defense": defense,
            "short": {"dataset": dataset, "model": model, "attack": attack, "defense": defense.partition(",")[0]},
            "attack_kind": "minimal" if minimal else "budget",
            "budget": None if minimal else {"norm": "linf", "eps": 0.3},
            "status": "ok", "error": None, "n": n, "clean_accuracy": CLEAN[dataset], "robust_accuracy": robust,
            "robust_accuracy_ci95": [max(0.0, robust - 0.03), min(1.0, robust + 0.03)],
            "attack_success_rate": 1 - robust,
            "median_linf": 0.1, "median_l2": L2[attack], "seconds": 1.0, "craft_seconds": 1.0, "warnings": [],
        }  # fmt: skip
        if suite != FULL:
            self.confusions[dataset, spec, defense] = SPREAD if defense.startswith("vqvae") else CONCENTRATED

    @staticmethod
    def attack(dataset: str, protocol: str, attack: str) -> str:
        return SPECS[protocol][attack].replace("{eps}", EPS[dataset])

    @staticmethod
    def defense(dataset: str, key: str) -> str:
        return DEFENSES.get(key, key).replace("{clusters}", str(CLUSTERS[dataset]))

    def found(
        self, dataset: str, protocol: str, attacks: tuple[str, ...], defense: str, full: bool = False
    ) -> list[tuple[str, str, str, str]]:
        """The keys of some cells."""
        specs = [self.attack(dataset, protocol, attack) for attack in attacks]
        wanted = self.defense(dataset, defense)
        keys = [
            key
            for key in self.cells
            if key[1:] in [(dataset, spec, wanted) for spec in specs]
            if (key[0] == FULL) == full and (key[0] == ADAPTIVE) == (protocol == "adaptive")
        ]
        assert keys, (dataset, protocol, attacks, defense)
        return keys

    def set(
        self, dataset: str, attacks: tuple[str, ...], defense: str, protocol: str = "minimal", full: bool = False,
        **values: Any,
    ) -> None:  # fmt: skip
        for key in self.found(dataset, protocol, attacks, defense, full):
            self.cells[key] |= values

    def drop(
        self, dataset: str, attacks: tuple[str, ...], defense: str, protocol: str = "minimal", full: bool = False
    ) -> None:
        for key in self.found(dataset, protocol, attacks, defense, full):
            del self.cells[key]

    def drop_dataset(self, dataset: str) -> None:
        self.cells = {key: cell for key, cell in self.cells.items() if key[1] != dataset}

    def suites(self) -> list[SuiteResults]:
        names = dict.fromkeys(suite for suite, *_ in self.cells)
        return [self._suite(name) for name in names]

    def _suite(self, name: str) -> SuiteResults:
        cells = [cell for (suite, *_), cell in self.cells.items() if suite == name]
        confusions = {
            (*DATASETS[dataset], spec, threat(name), defense): matrix
            for (dataset, spec, defense), matrix in self.confusions.items()
        }
        judged = [
            cell
            for cell in cells
            if name not in (FULL, ADAPTIVE)
            and (self.outcomes_of_all or (cell["defense"], cell["short"]["dataset"]) == (DEFENSES["jpeg"], "mnist"))
        ]
        outcomes = {
            tuple(str(cell[axis]) for axis in ("dataset", "model", "attack", "threat", "defense")): self._outcomes(cell)
            for cell in judged
            if cell["robust_accuracy"] is not None
        }
        run = {
            "run": "abc123", "name": name, "command": f"advbench matrix --suite {name}", "seed": 0, "device": "cpu",
            "created": "2026-01-02T03:04:05+00:00", "threads": 2, "versions": {"advbench": "0.1.0"},
            "weights": {"mnist-cnn": "0123456789abcdef0123"},
        }  # fmt: skip
        results = {"schema": 1, "run": run, "cells": cells, "leaderboards": []}
        return SuiteResults(name, results, confusions, outcomes, images=self._images)

    def _outcomes(self, cell: Mapping[str, Any]) -> Outcomes:
        """The first images are robust; all fool the undefended model."""
        n = cell["n"]
        robust = (np.arange(n) < round(cell["robust_accuracy"] * n)).astype(float)
        errors = np.stack([np.zeros(n, dtype=np.int64), np.where(robust > 0, 0, 1)], axis=1)
        distances = np.full(n, cell["median_l2"])
        distances[n if self.fooled is None else self.fooled :] = np.nan
        return Exact("mnist", robust, np.full(n, cell["clean_accuracy"]), distances, errors)

    def _images(self, cell: Mapping[str, Any]) -> tuple[Any, Any]:
        """Images of four pixels, of which the attack moved so many to 255."""
        robust = self._outcomes(cell).robust
        clean = np.full((cell["n"], 1, 2, 2), 0.5, dtype=np.float32)
        shares = np.where(robust > 0, self.moved[1], self.moved[0]).reshape(-1, 1, 1, 1)
        moved = np.arange(4).reshape(1, 1, 2, 2) < 4 * shares
        return clean, np.where(moved, np.float32(1), clean)

    def reproduction(self) -> dict[str, Any]:
        return build_reproduction(self.suites(), "advbench reproduce paper")

    def verdicts(self, protocol: str = "minimal") -> dict[int, str]:
        return {claim["number"]: claim[protocol]["verdict"] for claim in self.reproduction()["claims"]}


assert {protocol.key for protocol in PROTOCOLS} == set(SPECS)
