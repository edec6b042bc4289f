from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from tests.plugins.attacks.classifiers import Holed, Linear, inner_images, sizes

from advbench.api import Goal, ParameterError
from advbench_attacks.hyperplane_projection import step_to_hyperplane
from advbench_attacks.minimal.fab import TargetedFab
from advbench_attacks.minimal.fab_search import FabSearch

pytestmark = pytest.mark.slow

NORMS = ("linf", "l2")
ATTACKS = [TargetedFab(norm, targets=3, steps=20) for norm in NORMS]


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("norm", NORMS)
def test_the_perturbation_of_a_linear_classifier_is_the_smallest_one(norm, batch, streams):
    model, images = Linear(), inner_images(8)
    labels = model(images).argmax(dim=1)
    crafted = torch.cat(
        [TargetedFab(norm).run(model, images[i], labels[i], streams(i.tolist())) for i in torch.arange(8).split(batch)]
    )
    smallest = model.distance(images, labels, norm)
    assert (model(crafted).argmax(dim=1) != labels).all()
    assert (sizes(crafted - images, norm) >= 0.999 * smallest).all()
    assert (sizes(crafted - images, norm) <= 1.02 * smallest).all()


@pytest.mark.parametrize("norm", NORMS)
def test_the_last_look_between_image_and_point_takes_back_the_overshoot_of_a_step(norm, streams):
    model, images = Linear(), inner_images(8)
    labels = model(images).argmax(dim=1)
    crafted = TargetedFab(norm, steps=1).run(model, images, labels, streams(range(8)))
    assert (sizes(crafted - images, norm) <= 1.002 * model.distance(images, labels, norm)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_that_look_allows_for_what_rounding_makes_of_logits_much_larger_than_their_difference(norm, streams):
    plane, images = Linear(), inner_images(8)
    logits = plane(images)
    labels, gap = logits.argmax(dim=1), logits.topk(2, dim=1).values.diff().abs().min()
    lifted = Lifted(plane, 1000 * float(gap))
    crafted = TargetedFab(norm, steps=1).run(lifted, images, labels, streams(range(8)))
    assert (lifted(crafted).argmax(dim=1) != labels).all()
    # Another class leads clearly by a hundred-thousandth of the logits: a hundredth of the way more.
    assert (sizes(crafted - images, norm) <= 1.012 * plane.distance(images, labels, norm)).all()


class Lifted(torch.nn.Module):
    """Another classifier whose logits are all larger by as much."""

    def __init__(self, classifier: torch.nn.Module, by: float) -> None:
        super().__init__()
        self.classifier, self.by = classifier, by

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(images) + self.by


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_to_the_boundary_goes_no_further_than_it_must_and_stays_in_the_image_range(norm):
    generator = torch.Generator().manual_seed(0)
    points = (3 * torch.rand(64, 1, 8, 8, generator=generator) - 1).clamp(0, 1)  # most of them at a bound
    normals = torch.randn(64, 1, 8, 8, generator=generator) ** 7
    offsets = torch.randn(64, generator=generator) * 1000
    changes = step_to_hyperplane(points, normals, offsets, norm)
    wanted = _by_bisection(points, normals, offsets, norm)
    reached = (normals * wanted).flatten(1).sum(dim=1) + offsets
    assert 0 < (reached.abs() < 1e-3).sum() < 64, "some planes must lie outside [0, 1], and some not"
    torch.testing.assert_close(changes, wanted.float(), atol=1e-5, rtol=1e-4)
    assert (points + changes).min() > -1e-6
    assert (points + changes).max() < 1 + 1e-6


def _by_bisection(points, normals, offsets, norm):
    # In NumPy, whose many small steps take a fifth of torch's.
    shape = points.shape
    points, normals = (x.flatten(1).double().numpy() for x in (points, normals))
    offsets = offsets.double().numpy()[:, None]
    signs, weights = -np.sign(normals) * np.sign(offsets), np.abs(normals)
    room = np.where(signs > 0, 1 - points, points)
    speeds = np.ones_like(room) if norm == "linf" else weights
    low = np.zeros((len(points), 1))
    high = low + 1e40
    for _ in range(250):
        middle = (low + high) / 2
        moved = (weights * np.minimum(middle * speeds, room)).sum(axis=1, keepdims=True)
        short = moved < np.abs(offsets)
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return torch.from_numpy(signs * np.minimum(high * speeds, room)).reshape(shape)


def test_a_step_to_the_boundary_in_l1_is_the_solution_of_its_linear_programme():
    generator = torch.Generator().manual_seed(0)
    points = (3 * torch.rand(20, 1, 3, 4, generator=generator) - 1).clamp(0, 1)
    normals = torch.randn(20, 1, 3, 4, generator=generator)
    offsets = 2 * torch.randn(20, generator=generator)
    changes = step_to_hyperplane(points, normals, offsets, "l1")
    assert (points + changes).min() > -1e-6
    assert (points + changes).max() < 1 + 1e-6
    met = 0
    for point, normal, offset, change in zip(points, normals, offsets, changes, strict=True):
        weights, place = normal.flatten().double().numpy(), point.flatten().double().numpy()
        bounds = [*((0, 1 - value) for value in place), *((0, value) for value in place)]  # upwards, and downwards
        best = linprog([1] * 24, A_eq=[[*weights, *-weights]], b_eq=[-offset.item()], bounds=bounds)
        reached = (normal * change).sum() + offset
        assert best.success == bool(reached.abs() < 1e-4)
        if best.success:
            met += 1
            assert change.abs().sum().item() == pytest.approx(best.fun, abs=1e-5)
    assert 0 < met < 20, "some planes must lie outside [0, 1], and some not"


@pytest.mark.parametrize("norm", [*NORMS, "l1"])
def test_without_a_direction_there_is_no_step(norm):
    points = torch.full((2, 1, 2, 2), 0.5)
    assert torch.equal(
        step_to_hyperplane(points, torch.zeros_like(points), torch.ones(2), norm), torch.zeros_like(points)
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_search_for_a_step_ends_where_it_has_settled(norm, monkeypatch):
    rounds, minimum = [], torch.minimum
    monkeypatch.setattr(torch, "minimum", lambda *given: rounds.append(1) or minimum(*given))
    points = torch.full((3, 1, 3, 4), 0.5)
    step_to_hyperplane(points, torch.ones_like(points), torch.full((3,), 0.1), norm)  # nothing comes to its bound
    assert len(rounds) <= 4, "one to get there, one to see it, one for rounding, and the changes themselves"


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_every_sample_is_fooled_and_the_inputs_stay_as_they_were(attack, network, many, streams):
    images, labels = many
    kept = images.clone()
    crafted = attack.run(network, images, labels, streams(range(100)))
    assert attack.budget() is None
    assert attack.minimized_norm() == attack.norm
    assert (network(crafted).argmax(dim=1) != labels).all()
    assert crafted.min() >= 0
    assert crafted.max() <= 1
    assert (crafted.dtype, crafted.shape, crafted.requires_grad) == (torch.float32, images.shape, False)
    assert torch.equal(images, kept)


@pytest.mark.parametrize("norm", NORMS)
def test_fab_takes_the_steps_of_the_paper(norm, network, many):
    images, labels = many[0][:40], many[1][:40]
    search = FabSearch(network, images, Goal(labels), steps=8, targets=1, norm=norm)
    targets = network(images).scatter(1, labels[:, None], float("-inf")).argmax(dim=1)
    by_hand = torch.stack([_by_hand(network, *one, norm, 8) for one in zip(images, labels, targets, strict=True)])
    search._run_target(torch.arange(40), targets)
    away = (search.nearest.points - by_hand).abs().amax(dim=(1, 2, 3))
    assert (away < 1e-4).float().mean() > 0.9  # of two points equally near rounding may make either the nearer


def _by_hand(network, image, label, target, norm, steps):
    """Algorithm 1 of Croce and Hein towards one class on one sample, which must be fooled."""
    image, point = image[None], image[None]
    found, nearest = None, float("inf")
    for _ in range(steps):
        point = point.clone().requires_grad_()
        logits = network(point)[0]
        gap = logits[target] - logits[label]
        normal = torch.autograd.grad(gap, point)[0]
        point, gap = point.detach(), gap.detach()[None]
        change = _by_bisection(point, normal, gap, norm).float()
        clean_change = _by_bisection(image, normal, gap + (normal * (image - point)).sum(), norm).float()
        way, clean_way = sizes(change, norm), sizes(clean_change, norm)
        bias = min(float(way / (way + clean_way)), 0.1)
        point = ((1 - bias) * (point + 1.05 * change) + bias * (image + 1.05 * clean_change)).clamp(0, 1)
        if network(point).argmax() != label:
            if sizes(point - image, norm) < nearest:
                found, nearest = point[0], float(sizes(point - image, norm))
            point = 0.1 * image + 0.9 * point
    return found


@pytest.mark.parametrize("norm", NORMS)
def test_more_steps_come_nearer_on_a_bent_boundary(norm, many, network, streams):
    class Bent(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return network(images**3)

    bent, images = Bent().eval(), many[0]
    labels = bent(images).argmax(dim=1)
    few, more, most = (
        sizes(TargetedFab(norm, 3, steps).run(bent, images, labels, streams(range(100))) - images, norm)
        for steps in (2, 20, 100)
    )
    assert (few > 1.01 * more).sum() > 30
    assert (more <= 1.02 * few).all()
    assert (more > 1.01 * most).sum() < 10, "points that barely cross the boundary must not stay there"


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_logits_that_are_not_numbers_leave_the_clean_images(attack, network, images, labels, streams):
    assert torch.equal(attack.run(Holed(network, images).eval(), images, labels, streams(range(6))), images)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_it_works_where_the_caller_has_switched_gradients_off(attack, network, images, labels, streams):
    usual = attack.run(network, images, labels, streams(range(6)))
    with torch.no_grad():
        assert torch.equal(attack.run(network, images, labels, streams(range(6))), usual)


def test_more_targets_than_other_classes_are_all_of_them(streams, recorded):
    model, images = Linear(3), inner_images(8)
    labels = model(images).argmax(dim=1)
    passes = []
    for targets in (1, 2, 9):
        recorder = recorded(model)
        TargetedFab(targets=targets, steps=5).run(recorder, images, labels, streams(range(8)))
        passes.append(len(recorder.batches))
    assert passes[1] == passes[2] == passes[0] + 2 * 5


@pytest.mark.parametrize("norm", NORMS)
def test_within_eps_a_sample_leaves_as_soon_as_it_is_near_enough(norm, recorded):
    model, images = Linear(), inner_images(8)
    labels = model(images).argmax(dim=1)
    smallest = model.distance(images, labels, norm)
    eps = float(smallest.median()) * 1.1
    recorder = recorded(model)
    search = FabSearch(recorder, images, Goal(labels), steps=10, targets=4, norm=norm, eps=eps)
    search.run()
    assert torch.equal(search.nearest.distances <= eps, smallest <= eps)
    steps = recorder.batches[1 : 1 + 2 * 10 * 4]
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] == (smallest > eps).sum()
    assert steps[2] < 8, "samples must leave within the steps towards a class, too"


@pytest.mark.parametrize(("key", "text"), [("norm", "l1"), ("targets", "0"), ("steps", "0")])
def test_parameters_out_of_range_are_refused(key, text):
    with pytest.raises(ParameterError, match=rf"{key}={text}"):
        TargetedFab.from_text({key: text})
