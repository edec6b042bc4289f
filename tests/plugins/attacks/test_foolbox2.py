"""Attacks as in Foolbox 2.3.0: closed forms on linear models, and groups that the harness never splits or joins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tests.conftest import Called

from advbench.api import ContractError, SampleRandom
from advbench.contracts.budgets import check_group_size
from advbench.discovery.loading import discover
from advbench.evaluation.run import estimate
from advbench.evaluation.work import craft
from advbench.evaluation.work.attacked.batch import SplitCalls
from advbench.specs import full_spec, resolve_one
from advbench.testing import assert_conforms, check
from advbench_attacks.foolbox2.deepfool import foolbox2_deepfool
from advbench_attacks.foolbox2.fgsm import foolbox2_fgsm
from advbench_attacks.foolbox2.pgd import foolbox2_pgd
from advbench_attacks.minimal.deepfool import DeepFool

Call = Callable[..., Called]


class Plane(torch.nn.Module):
    """Two classes, divided by a plane whose normal is along the diagonal of 16 pixels; logits are ±scale · height."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height = self.scale * (images.flatten(1).mean(dim=1) - 0.5)
        return torch.stack([height, -height], dim=1)


def at_height(*heights: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey images whose mean is .5 plus these heights, all of class 0."""
    images = torch.stack([torch.full((1, 4, 4), 0.5 + height) for height in heights])
    return images, torch.zeros(len(heights), dtype=torch.int64)


def distances(images: torch.Tensor, adversarial: torch.Tensor) -> list[float]:
    return [round(float(distance), 4) for distance in (adversarial - images).flatten(1).norm(dim=1)]


def deepfool(images: torch.Tensor, labels: torch.Tensor, **given: Any) -> torch.Tensor:
    return foolbox2_deepfool(Plane(), images, labels, **{"steps": 100, "candidates": 10, "mean": True, **given})


def test_a_step_of_deepfool_is_too_long_by_the_number_of_samples_that_run() -> None:
    images, labels = at_height(0.02, 0.02, 0.02, 0.02)
    # The plane is at .02 · √16 = .08: times 4 samples and 1.05.
    assert distances(images, deepfool(images, labels)) == [0.336] * 4
    assert distances(images[:1], deepfool(images[:1], labels[:1])) == [0.084]
    assert distances(images, deepfool(images, labels, mean=False)) == [0.084] * 4


def test_samples_that_are_misclassified_already_do_not_count() -> None:
    images, labels = at_height(0.02, -0.1, 0.02)
    assert distances(images, deepfool(images, labels)) == [0.168, 0.0, 0.168]


def test_a_class_with_an_equal_logit_is_no_target() -> None:
    class Tied(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            height = images.flatten(1).mean(dim=1)
            return torch.stack([height * 0 + 0.5, height * 0 + 0.5, height], dim=1)

    images, labels = at_height(-0.1)
    adversarial = foolbox2_deepfool(Tied(), images, labels, steps=100, candidates=10, mean=True)
    assert distances(images, adversarial) == [0.42]


def test_fgsm_tries_twenty_parts_where_one_of_the_first_twenty_sizes_succeeds() -> None:
    images, labels = at_height(0.0104, 0.1007, -0.1)
    changes = (foolbox2_fgsm(Plane(), images, labels, max_eps=1.0) - images).abs().flatten(1).amax(dim=1)
    # .011 is the first of .001, .002, … that succeeds; .01045 is the first of its twentieths. .101 is not tried again.
    assert changes.tolist() == pytest.approx([0.01045, 0.101, 0.0], abs=1e-6)


def test_fgsm_leaves_the_clean_image_where_no_size_succeeds() -> None:
    images, labels = at_height(0.31)
    assert torch.equal(foolbox2_fgsm(Plane(), images, labels, max_eps=0.3), images)


@pytest.mark.parametrize(("height", "eps"), [(0.05, 0.05), (0.31, 0.31), (0.49, 0.49)])
def test_pgd_grows_eps_and_bisects_it(height: float, eps: float) -> None:
    images, labels = at_height(height)
    change = float((foolbox2_pgd(Plane(), images, labels, steps=40, step_size=0.01) - images).abs().max())
    assert change == pytest.approx(eps, rel=1e-4)


@pytest.mark.parametrize("attack", ["fgsm:search=foolbox2", "pgd:search=foolbox2"])
def test_sign_attacks_of_foolbox_2_3_do_not_notice_what_the_loss_is_divided_by(attack: str) -> None:
    images, labels = at_height(0.05, 0.1, 0.2)
    run = resolve_one(discover(), "attacks", attack).run
    together = run(Plane(), images, labels, SampleRandom(0, "attack", range(3), images.device))
    alone = [
        run(Plane(), images[i : i + 1], labels[i : i + 1], SampleRandom(0, "attack", [i], images.device))
        for i in range(3)
    ]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize(
    ("spec", "full"),
    [
        (
            "deepfool:variant=foolbox2,batch=8",
            "deepfool:steps=50,candidates=10,variant=foolbox2,batch=8,reduction=mean",
        ),
        ("fgsm:search=foolbox2", "fgsm:search=foolbox2,max_eps=1"),
        ("pgd:search=foolbox2", "pgd:steps=40,step_size=none,search=foolbox2"),
    ],
)
def test_a_spec_has_only_the_parameters_of_its_variant(spec: str, full: str) -> None:
    attack = resolve_one(discover(), "attacks", spec)
    assert full_spec(attack) == full
    assert resolve_one(discover(), "attacks", full) == attack


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("deepfool:batch=8", "batch has no meaning with variant=original; add variant=foolbox2"),
        ("deepfool:variant=foolbox2,overshoot=0.1", "overshoot has no meaning with variant=foolbox2, whose steps are"),
        ("deepfool:variant=foolbox2,norm=linf", "norm has no meaning with variant=foolbox2, which is in L2"),
        ("deepfool:variant=foolbox2,engine=foolbox", "engine has no meaning with variant=foolbox2; add variant=orig"),
        ("pgd:search=foolbox2,random_start=true", "random_start has no meaning with search=foolbox2; add search=none"),
        ("pgd:search=foolbox2,eps=0.3", "eps has no meaning with search=foolbox2, which searches eps itself"),
    ],
)
def test_a_parameter_of_another_variant_is_a_one_line_error(call: Call, spec: str, message: str) -> None:
    assert message in call("matrix", "--attacks", spec).error_line()


@pytest.fixture
def images_of(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Attacks 150 digits in groups of 64, and returns the images and the sizes of the batches that the attack got."""
    crafting, stores = DeepFool.craft, iter("abcdef")

    def attack(*flags: object) -> tuple[Any, list[int]]:
        sizes: list[int] = []  # without those of probes, which are small

        def counted(self: DeepFool, model: Any, images: Any, goal: Any, rng: Any, fitted: Any = None) -> Any:
            sizes.append(len(images))
            return crafting(self, model, images, goal, rng, fitted)

        monkeypatch.setattr(DeepFool, "craft", counted)
        monkeypatch.setattr(estimate, "pilot_of", lambda *_: None)  # its size depends on the speed of the machine
        store = tmp_path / next(stores)
        matrix = ("matrix", "--datasets", "mnist-5k", "--limit", 150, "--models", "mnist-cnn", "--defenses", "none")
        called = call(
            *matrix,
            "--attacks",
            "deepfool:variant=foolbox2,steps=5",
            "--threats",
            "oblivious",
            "--store",
            store,
            *flags,
        )
        assert called.code == 0, called.err
        (file,) = (store / "adversarial").rglob("*.safetensors")
        return load_file(file), [size for size in sizes if size > 16]

    return attack


@pytest.mark.slow
@pytest.mark.usefixtures("quick_workers")
def test_groups_are_the_same_whatever_the_batch_size_and_the_number_of_jobs(images_of: Callable[..., Any]) -> None:
    expected, sizes = images_of()
    assert sizes[-3:] == [64, 64, 22]
    for flags in (("--batch-size", 1), ("--batch-size", 64), ("--batch-size", 100), ("--jobs", 2, "--batch-size", 64)):
        tensors, sizes = images_of(*flags)
        assert flags[0] == "--jobs" or set(sizes) <= {64, 22}
        assert tensors.keys() == expected.keys()
        assert all(np.array_equal(tensors[name], expected[name]) for name in tensors)


@pytest.mark.slow
def test_a_group_is_not_split_when_memory_is_short(
    images_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = images_of()
    attacked = craft.RecordingClassifier.forward

    def short(self: Any, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 20 and not isinstance(self.target, SplitCalls):
            raise torch.OutOfMemoryError("not enough memory for 20 images")
        return attacked(self, images)

    monkeypatch.setattr(craft.RecordingClassifier, "forward", short)
    tensors, sizes = images_of()
    assert 64 in sizes
    assert np.abs(tensors["images"].astype(float) - expected["images"]).mean() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    ["deepfool:variant=foolbox2,batch=2", "deepfool:variant=foolbox2", "fgsm:search=foolbox2", "pgd:search=foolbox2"],
)
def test_they_keep_the_contract_of_attacks(attack: str) -> None:
    assert_conforms(attack)


@pytest.mark.slow
def test_the_kit_finds_an_attack_that_remembers_the_group_before() -> None:
    class Remembering(DeepFool):
        seen: ClassVar[list[int]] = []

        def run(
            self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
        ) -> torch.Tensor:
            self.seen.append(len(images))
            return super().run(model, images, labels, rng).lerp(images, 0.25 * (len(self.seen) % 3))

    failed = {finding.rule for finding in check(Remembering(variant="foolbox2", batch=2)) if finding.passed is False}
    assert "independent of its batch" in failed


@pytest.mark.parametrize("size", [0, True, 1.5])
def test_a_group_size_that_is_no_number_of_samples_is_named(size: Any) -> None:
    class Wrong(DeepFool):
        group_size = size

    with pytest.raises(ContractError, match="expected a whole number above 0, or None"):
        check_group_size(Wrong())
