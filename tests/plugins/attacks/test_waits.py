"""How often attacks wait for an accelerator, and that they return the same images there as on the CPU."""

from __future__ import annotations

import pytest
import torch
from benchmarks.simulated_device import DEVICE, to_device
from benchmarks.waits import ATTACKS, Counted, count_waits, images_and_labels, small_network

from advbench.api import SampleRandom, devices
from advbench.discovery.loading import discover
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier
from advbench.specs import resolve_chain, resolve_one

pytestmark = pytest.mark.slow

_AT_START_AND_END = 3
"""Waits outside of steps: which samples are right at the start, copies of random streams, the last check of images."""

_SAMPLES = 8


@pytest.mark.parametrize("spec", ATTACKS)
def test_attacks_wait_at_most_once_a_step_and_return_the_images_of_the_cpu(spec: str) -> None:
    on_cpu, on_device = _run(spec, simulated=False), _run(spec, simulated=True)
    assert on_device.waits.total() <= len(on_device.batches) + _AT_START_AND_END, on_device.waits
    assert torch.equal(on_device.images, on_cpu.images)
    for counted in (on_cpu, on_device):
        assert counted.total_forwards == sum(counted.batches)
        assert int(counted.queries["forwards"].sum()) == sum(counted.batches)
    if "deepfool" not in spec:  # which computes gradients of finished samples instead of waiting
        assert on_device.batches == on_cpu.batches
        for name, numbers in on_cpu.queries.items():
            assert torch.equal(on_device.queries[name], numbers), name


@pytest.mark.parametrize("spec", ["fgsm:eps=0.1", "pgd:eps=0.1,steps=10", "rotate-shift:angles=3,shifts=3,max_shift=2"])
def test_attacks_whose_steps_are_known_do_not_wait(spec: str) -> None:
    assert _run(spec, simulated=True).waits.total() <= 1


@pytest.mark.parametrize(("defense", "draws"), [("gaussian:sigma=1", 1), ("bit-depth", 1), ("resize-pad", 2)])
@pytest.mark.parametrize("spec", ["pgd:eps=0.1,steps=10", "ddn:steps=20", "square:eps=0.1,queries=20"])
def test_a_defense_adds_no_waits_to_the_steps(spec: str, defense: str, draws: int) -> None:
    on_cpu, on_device = (_run(spec, simulated=simulated, defense=defense, draws=draws) for simulated in (False, True))
    changes = len(set(on_device.batches))  # each time samples leave, the random streams of the others are selected
    assert on_device.waits.total() <= len(on_device.batches) + _AT_START_AND_END + changes, on_device.waits
    assert torch.equal(on_device.images, on_cpu.images)
    assert on_device.batches == on_cpu.batches


@pytest.mark.parametrize("spec", ["pgd:eps=0.05,steps=10", "ddn:steps=20", "square:eps=0.05,queries=25"])
def test_a_limit_of_queries_adds_one_wait_to_each_call(spec: str) -> None:
    on_cpu, on_device = (_run(spec, simulated=simulated, most=100) for simulated in (False, True))
    assert on_device.waits.total() <= 2 * len(on_device.batches) + _AT_START_AND_END, on_device.waits
    assert torch.equal(on_device.images, on_cpu.images)


@pytest.mark.parametrize(
    "spec",
    ["fmn:steps=5,norm=l2,goal=next", "fgsm:search=foolbox2", "pgd:steps=1,search=foolbox2", "deepfool:steps=3",
     "rotate-shift:angles=3,shifts=1,max_shift=2", "motion-blur", "ddn:steps=10"],
)  # fmt: skip
def test_a_device_without_float64_gives_nearly_the_images_of_the_cpu(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu = _run(spec, simulated=False, defense="smoothing")
    monkeypatch.setattr(devices, "WITHOUT_FLOAT64", {DEVICE.type})
    narrow = _run(spec, simulated=True, defense="smoothing", float64=False)
    different = ((narrow.images - on_cpu.images).abs().flatten(1).amax(dim=1) > 1e-3).sum()
    assert different <= 1  # rounding may lead to another boundary


def _run(
    spec: str, *, simulated: bool, defense: str = "", draws: int = 1, float64: bool = True, most: int | None = None
) -> Counted:
    registry, network = discover(), small_network()
    images, labels = images_and_labels(network, _SAMPLES)
    classifier = to_device(network) if simulated else network
    if defense:
        chain = resolve_chain(registry, defense)[0]
        rng = SampleRandom(0, "attacked defense", range(_SAMPLES), DEVICE if simulated else "cpu")
        classifier = DefendedClassifier(classifier, chain, rng, draws)
    return count_waits(resolve_one(registry, "attacks", spec), classifier, images, labels, float64=float64, most=most)
