"""The suites of the 2019 paper against the components and the training commands that they name."""

from __future__ import annotations

import argparse

import pytest

from advbench.cli import train_command
from advbench.discovery.loading import discover
from advbench.discovery.registry import Registry
from advbench.errors import UnknownNameError
from advbench.evaluation.plan.build import resolve_axes
from advbench.specs import load_suite, resolve_one
from advbench_studies.paper2019.further_weights import FURTHER_WEIGHTS

WITH_WEIGHTS = ["paper-noise", "paper-vqvae", "paper-retrained-mnist", "paper-retrained-cifar10"]
SUITES = [
    *("paper", "paper-fixed", "paper-foolbox2", "paper-ablations", "paper-full"),
    *WITH_WEIGHTS,
    "paper-adaptive",
]


def registered(registry: Registry, kind: str, name: str) -> bool:
    try:
        registry.get(kind, name)
    except UnknownNameError:
        return False
    return True


@pytest.mark.parametrize("name", SUITES)
def test_the_built_in_components_are_what_the_suites_ask_for(name: str) -> None:
    registry = discover()
    wanted = [("defenses", "vqvae"), ("models", "cifar10-densenet")]
    if not all(registered(registry, kind, component) for kind, component in wanted):
        pytest.skip("the VQ-VAE or the DenseNet is not registered")
    if "search" not in {parameter.name for parameter in registry.get("attacks", "pgd").component.parameters()}:
        pytest.skip("pgd has no minimal form")
    for axes in resolve_axes(registry, load_suite(name, registry.studies)):
        minimal = [attack.budget() is None for attack in axes.attacks]
        assert any(minimal) or name.startswith("paper-retrained"), "those are about clean images"


def test_further_weights_are_those_of_the_suites_and_of_the_training_commands() -> None:
    registry = discover()
    suites = [load_suite(name, registry.studies) for name in WITH_WEIGHTS]
    specs = [spec for suite in suites for part in suite.products for spec in (*part.models, *part.defenses)]
    named = {spec.partition("weights=")[2] for spec in specs if "weights=" in spec}
    assert {weights.file for weights in FURTHER_WEIGHTS} == named
    for weights in FURTHER_WEIGHTS:
        parser = argparse.ArgumentParser()
        train_command.add_arguments(parser)
        options = parser.parse_args(weights.command("w").split()[2:])
        assert str(options.output) == f"w/{weights.file}"
        kind = "models" if options.defense else "defenses"
        trained = resolve_one(registry, kind, options.name)
        assert options.recipe in (None, *trained.recipes)  # type: ignore[attr-defined]
        if kind == "defenses":  # a spec of a suite has the same parameters, or the weights are refused
            assert f"{trained.weights_name('mnist')}.safetensors" == weights.file  # type: ignore[attr-defined]
            spec = next(spec for spec in specs if spec.endswith(weights.file)).partition(",weights=")[0]
            assert resolve_one(registry, kind, spec) == trained
