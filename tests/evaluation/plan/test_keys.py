"""A stored result is found again only for exactly what it was computed from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from advbench.api import DataSources
from advbench.discovery.loading import discover
from advbench.discovery.registry import Registry
from advbench.evaluation.plan import keys as keys_module
from advbench.evaluation.plan.build import Plan, build_plan, resolve_axes
from advbench.evaluation.plan.samples import pick_ids
from advbench.specs import Suite

SUITE = Suite(
    "test",
    datasets=("mnist-5k",),
    models=("mnist-cnn",),
    attacks=("pgd",),
    defenses=("jpeg+tvm",),
    limit=10,
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.fixture
def plan(registry: Registry, tmp_path: Any) -> Callable[..., Plan]:
    def make(device: str = "cpu", **changes: Any) -> Plan:
        axes = resolve_axes(registry, dataclasses.replace(SUITE, **changes))
        return build_plan(axes, DataSources(tmp_path), device)

    return make


def keys(plan: Plan) -> tuple[str, str, str]:
    """Keys of the adversarial images, the clean predictions and the cell of a plan of one cell."""
    (cell,) = plan.cells
    (chunk,) = cell.chunks
    return chunk.key, cell.clean_key, cell.key


def test_the_same_request_has_the_same_keys(plan: Callable[..., Plan]) -> None:
    assert keys(plan()) == keys(plan())


def test_every_parameter_of_an_attack_is_in_the_keys_of_images_and_cell(plan: Callable[..., Plan]) -> None:
    changed = {
        "eps": "pgd:eps=0.2",
        "steps": "pgd:steps=41",
        "step_size": "pgd:step_size=0.01",
        "random_start": "pgd:random_start=false",
        "search": "pgd:search=minimal",
        "early_stop": "pgd:early_stop=true",
        "engine": "pgd:engine=foolbox",
        "norm": "pgd:norm=l2",
        "loss": "pgd:loss=margin",
        "restarts": "pgd:restarts=2",
        "goal": "pgd:goal=next",
    }
    (cell,) = plan().cells
    assert changed.keys() == cell.attack.values().keys()
    before = keys(plan())
    for parameter, spec in changed.items():
        after = keys(plan(attacks=(spec,)))
        assert after[0] != before[0], parameter
        assert after[1] == before[1], "clean predictions do not depend on the attack"
        assert after[2] != before[2], parameter


def test_a_default_written_out_is_the_same_attack(plan: Callable[..., Plan]) -> None:
    assert keys(plan()) == keys(plan(attacks=("pgd:eps=3e-1,steps=40",)))


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"limit": 11}, {"device": "cuda:0"}], ids=["seed", "sample ids", "device"]
)
def test_seed_samples_and_device_are_in_every_key(plan: Callable[..., Plan], changes: dict[str, Any]) -> None:
    assert all(before != after for before, after in zip(keys(plan()), keys(plan(**changes)), strict=True))


def test_the_precision_of_the_attack_is_in_the_keys_of_images_and_cell_where_it_is_not_float32(
    plan: Callable[..., Plan],
) -> None:
    before, same, after = keys(plan()), keys(plan(precision="float32")), keys(plan(precision="bf16"))
    assert before == same
    assert "precision" not in plan().cells[0].chunks[0].key_inputs
    assert tuple(old != new for old, new in zip(before, after, strict=True)) == (True, False, True)


def test_the_number_of_a_device_is_in_no_key(plan: Callable[..., Plan]) -> None:
    assert keys(plan(device="cuda:0")) == keys(plan(device="cuda:1"))


@pytest.mark.parametrize("defense", ["jpeg", "tvm+jpeg", "jpeg:quality=74+tvm", "jpeg+tvm:weight=0.04"])
def test_the_defense_is_in_the_keys_of_its_predictions_and_not_of_the_images(
    plan: Callable[..., Plan], defense: str
) -> None:
    before, after = keys(plan()), keys(plan(defenses=(defense,)))
    assert before[0] == after[0], "one set of images serves all defenses under the oblivious threat"
    assert before[1] != after[1]
    assert before[2] != after[2]


def test_weights_data_schema_and_torch_are_in_every_key(
    plan: Callable[..., Plan], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(plan())
    model = registry.get("models", "mnist-cnn").component
    dataset = registry.get("datasets", "mnist-5k").component
    changes: list[tuple[object, str, object]] = [
        (model, "weights_digest", lambda self: "other weights"),
        (dataset, "digest", lambda self, sources: "other data"),
        (keys_module, "SCHEMA", 0),
        (torch, "__version__", "0.0"),
    ]
    for holder, name, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(holder, name, value)
            after = keys(plan())
        assert all(old != new for old, new in zip(before, after, strict=True)), name


@pytest.mark.parametrize(
    ("package", "reaches"),
    [
        ("advbench_datasets", (True, True, True)),
        ("advbench_models", (True, True, True)),
        ("advbench_attacks", (True, False, True)),
        ("advbench_defenses", (False, True, True)),
    ],
)
def test_the_code_of_the_plugins_involved_is_in_the_keys(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, package: str, reaches: tuple[bool, ...]
) -> None:
    before = keys(plan())
    real = keys_module.code_digests
    monkeypatch.setattr(
        keys_module,
        "code_digests",
        lambda cls, more: {name: "changed" if name == package else digest for name, digest in real(cls, more).items()},
    )
    assert tuple(old != new for old, new in zip(before, keys(plan()), strict=True)) == reaches


@pytest.mark.parametrize(("library", "reaches"), [("foolbox", (True, False, True)), ("pillow", (False, True, True))])
def test_versions_of_libraries_that_shape_the_outcome_are_in_the_keys(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, library: str, reaches: tuple[bool, ...]
) -> None:
    before = keys(plan())
    real = keys_module.dependency_versions
    monkeypatch.setattr(
        keys_module,
        "dependency_versions",
        lambda cls: {name: "0" if name == library else version for name, version in real(cls).items()},
    )
    assert tuple(old != new for old, new in zip(before, keys(plan()), strict=True)) == reaches


def test_a_random_subset_is_reproducible_nested_and_its_seeds_own(registry: Registry) -> None:
    dataset = registry.get("datasets", "mnist-5k").component()
    small, large = pick_ids(dataset, 100, 0), pick_ids(dataset, 200, 0)  # type: ignore[arg-type]
    assert small == pick_ids(dataset, 100, 0)  # type: ignore[arg-type]
    assert list(small) == sorted(set(small))
    assert set(small) < set(large)
    assert small != pick_ids(dataset, 100, 1)  # type: ignore[arg-type]
    assert len(pick_ids(dataset, 10**6, 0)) == 5000  # type: ignore[arg-type]
    # If this fails the choice of samples has changed: stored results are no longer what a run computes.
    assert small[:5] == (28, 87, 183, 326, 361)
