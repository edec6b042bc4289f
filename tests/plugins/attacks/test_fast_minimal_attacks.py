from __future__ import annotations

import pytest
import torch

from advbench.api import Attack, Goal, ParameterError
from advbench_attacks.minimal import fmn
from advbench_attacks.minimal.cw import CarliniWagnerL2
from advbench_attacks.minimal.ddn import DecoupledDirectionAndNorm
from advbench_attacks.minimal.deepfool import DeepFool
from advbench_attacks.minimal.fab import TargetedFab
from advbench_attacks.minimal.fmn import FastMinimumNorm
from advbench_attacks.nearest_adversarials import NearestAdversarials
from advbench_attacks.norms import lp_norm

pytestmark = pytest.mark.slow

INFINITY = float("inf")
ATTACKS = [DecoupledDirectionAndNorm(), *(FastMinimumNorm(norm=norm) for norm in ("linf", "l2", "l1"))]


class Plane(torch.nn.Module):
    """Two classes apart by a plane whose weights are of very different sizes."""

    def __init__(self) -> None:
        super().__init__()
        signs = torch.tensor([1.0, -1.0]).repeat(6)
        self.weight = torch.linspace(0.05, 2.0, 12) * signs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        gap = (images.flatten(1) - 0.5) @ self.weight
        return torch.stack((gap, -gap), dim=1) / 2


def linear(weight: torch.Tensor, bias: torch.Tensor) -> torch.nn.Module:
    """A classifier with these weights, shape (classes, pixels), and biases."""
    layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(weight.shape[1], weight.shape[0]))
    layers[1].weight.data, layers[1].bias.data = weight.clone(), bias.clone()
    return layers.eval().requires_grad_(False)


@pytest.fixture
def plane() -> torch.nn.Module:
    return Plane().eval()


@pytest.fixture
def inner() -> torch.Tensor:
    """Eight images so near to grey that the bounds keep no attack from the plane, and all off it."""
    images = 0.5 + (torch.rand(8, 1, 3, 4, generator=torch.Generator().manual_seed(4)) - 0.5) * 0.2
    assert (Plane()(images)[:, 0].abs() > 0.01).all()
    return images


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize(
    ("attack", "order", "dual"), list(zip(ATTACKS, (2, INFINITY, 2, 1), (2, 1, 2, INFINITY), strict=True)), ids=str
)
def test_the_perturbation_for_a_linear_classifier_is_minimal(attack, order, dual, count, plane, inner, streams):
    inner = inner[:count]
    logits = plane(inner)
    labels = logits.argmax(dim=1)
    smallest = (logits[:, 0] - logits[:, 1]).abs() / torch.linalg.vector_norm(plane.weight, dual)
    crafted = attack.run(plane, inner, labels, streams(range(count)))
    found = torch.linalg.vector_norm((crafted - inner).flatten(1), order, dim=1)
    assert (plane(crafted).argmax(dim=1) != labels).all()
    assert (found >= 0.999 * smallest).all()
    assert (found <= 1.02 * smallest).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_every_sample_is_misclassified_and_inputs_are_unchanged(attack, network, images, labels, streams):
    kept = images.clone()
    with torch.no_grad():  # as callers may have it
        crafted = attack.run(network, images, labels, streams(range(6)))
    assert attack.budget() is None
    assert (network(crafted).argmax(dim=1) != labels).all()
    assert crafted.min() >= 0
    assert crafted.max() <= 1
    assert (crafted.dtype, crafted.shape, crafted.requires_grad) == (torch.float32, images.shape, False)
    assert torch.equal(images, kept)


def test_ddn_finds_the_nearest_of_many_boundaries_with_almost_equal_logits(streams):
    generator = torch.Generator().manual_seed(3)
    weight = 0.1 * torch.randn(10, 784, generator=generator) * torch.linspace(0.05, 2.0, 784)
    planes = linear(weight, 2 * torch.randn(10, generator=generator) - 0.5 * weight.sum(dim=1))
    images = 0.5 + 0.3 * (torch.rand(8, 1, 28, 28, generator=generator) - 0.5)
    logits = planes(images)
    labels = logits.argmax(dim=1)
    gaps = logits.gather(1, labels[:, None]) - logits
    distances = gaps / (weight[labels][:, None] - weight).norm(dim=2)
    smallest = distances.scatter(1, labels[:, None], float("inf")).amin(dim=1)
    crafted = DecoupledDirectionAndNorm().run(planes, images, labels, streams(range(8)))
    assert (planes(crafted).argmax(dim=1) != labels).all()
    assert ((crafted - images).flatten(1).norm(dim=1) <= 1.01 * smallest).all()  # by the cross-entropy up to 1.16 times


@pytest.mark.parametrize("attack", [DecoupledDirectionAndNorm(), CarliniWagnerL2()], ids=str)
@pytest.mark.parametrize(("classes", "scale"), [(2, 0.1), (10, 3.0)])
def test_boundaries_much_nearer_than_a_step_are_found(attack, classes, scale, streams):
    generator = torch.Generator().manual_seed(100 * classes + 10)
    weight = torch.randn(classes, 784, generator=generator) * torch.linspace(0.05, 2.0, 784) * scale / 28
    images = 0.5 + 0.03 * (torch.rand(8, 1, 28, 28, generator=generator) - 0.5)
    bias = 0.01 * torch.randn(classes, generator=generator) * weight.norm(dim=1) - 0.5 * weight.sum(dim=1)
    planes = linear(weight, bias)
    exact = images.flatten(1).double() @ weight.double().T + bias
    labels = exact.argmax(dim=1)
    distances = (exact.gather(1, labels[:, None]) - exact) / (weight[labels][:, None] - weight).norm(dim=2)
    smallest = distances.scatter(1, labels[:, None], INFINITY).amin(dim=1)
    assert 1e-4 < smallest.min() < smallest.max() < 0.05
    crafted = attack.run(planes, images, labels, streams(range(8)))
    assert (planes(crafted).argmax(dim=1) != labels).all()
    assert ((crafted - images).flatten(1).norm(dim=1) <= 1.02 * smallest).all()


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize(
    "attack",
    [
        DecoupledDirectionAndNorm(),
        CarliniWagnerL2(),
        *(FastMinimumNorm(norm) for norm in ("l2", "linf", "l1")),
        *(TargetedFab(norm) for norm in ("l2", "linf")),
        *(DeepFool(norm=norm) for norm in ("l2", "linf")),
    ],
    ids=str,
)
def test_the_nearest_boundary_is_found_even_if_it_is_not_the_top_classs(attack, batch, streams):
    generator = torch.Generator().manual_seed(1030)
    weight = torch.randn(10, 12, generator=generator) * torch.linspace(0.05, 2.0, 12) / 12**0.5
    images = 0.5 + 0.1 * (torch.rand(8, 1, 3, 4, generator=generator) - 0.5)
    planes = linear(weight, 0.03 * torch.randn(10, generator=generator) * weight.norm(dim=1) - 0.5 * weight.sum(dim=1))
    logits = planes(images)
    labels = logits.argmax(dim=1)
    order = {"linf": INFINITY, "l2": 2.0, "l1": 1.0}[attack.minimized_norm()]
    dual = {"linf": 1.0, "l2": 2.0, "l1": INFINITY}[attack.minimized_norm()]
    widths = torch.linalg.vector_norm(weight[labels][:, None] - weight, dual, dim=2)
    distances = ((logits.gather(1, labels[:, None]) - logits) / widths).scatter(1, labels[:, None], INFINITY)
    assert (distances.argmin(dim=1) != logits.topk(2, dim=1).indices[:, 1]).any()
    crafted = torch.cat(
        [attack.run(planes, images[i], labels[i], streams(i.tolist())) for i in torch.arange(8).split(batch)]
    )
    assert (planes(crafted).argmax(dim=1) != labels).all()
    found = torch.linalg.vector_norm((crafted - images).flatten(1), order, dim=1)
    assert (found <= 1.02 * distances.amin(dim=1)).all()


@pytest.mark.parametrize("attack", [*ATTACKS[:3], CarliniWagnerL2(steps=100), TargetedFab(norm="l2")], ids=str)
def test_points_within_the_rounding_tolerance_are_not_returned(attack, streams):
    generator = torch.Generator().manual_seed(202)
    weight = torch.randn(2, 784, generator=generator) * torch.linspace(0.05, 2.0, 784) * 0.1 / 28
    images = 0.5 + 0.009 * (torch.rand(8, 1, 28, 28, generator=generator) - 0.5)
    # The bias takes away nearly all of the sum, so that rounding counts for much.
    bias = 0.003 * torch.randn(2, generator=generator) * weight.norm(dim=1) - 0.5 * weight.sum(dim=1)
    planes = linear(weight, bias)
    labels = planes(images).argmax(dim=1)
    crafted = torch.cat(
        [attack.run(planes, images[i : i + 1], labels[i : i + 1], streams([i])) for i in range(len(images))]
    )
    assert (planes(crafted).argmax(dim=1) != labels).all()
    double = linear(weight, bias).double()
    assert (double(crafted.double()).argmax(dim=1) != labels).all()


def test_ddn_is_almost_as_near_as_cw_with_far_fewer_passes(network, many, streams, recorded):
    sizes, passes = [], []
    for attack in (DecoupledDirectionAndNorm(), CarliniWagnerL2(search_steps=5, steps=400)):
        recorder = recorded(network)
        crafted = attack.run(recorder, *many, streams(range(100)))
        assert (network(crafted).argmax(dim=1) != many[1]).all()
        sizes.append(lp_norm(crafted - many[0], "l2").median())
        passes.append(sum(recorder.batches))
    assert sizes[0] <= 1.1 * sizes[1]
    assert passes[0] <= 0.4 * passes[1]


def test_fmn_is_nearest_in_its_own_norm(network, many, streams):
    norms = ("linf", "l2", "l1")
    found = {norm: FastMinimumNorm(norm=norm).run(network, *many, streams(range(100))) - many[0] for norm in norms}
    for norm in norms:
        medians = {attacked: lp_norm(change, norm).median() for attacked, change in found.items()}
        assert min(medians, key=medians.__getitem__) == norm
        assert FastMinimumNorm(norm=norm).minimized_norm() == norm


@pytest.mark.parametrize(
    ("norm", "eps", "expected"),
    [
        ("linf", 2.0, [2.0, -1.0, 0.5, 0.0]),
        ("l2", 1.0, [3 / 10.25**0.5, -1 / 10.25**0.5, 0.5 / 10.25**0.5, 0.0]),
        ("l1", 3.0, [2.5, -0.5, 0.0, 0.0]),
        ("l1", 3.9, [2.8, -0.8, 0.3, 0.0]),
        ("l1", 1.0, [1.0, 0.0, 0.0, 0.0]),
        ("linf", 5.0, [3.0, -1.0, 0.5, 0.0]),
        ("l2", 5.0, [3.0, -1.0, 0.5, 0.0]),
        ("l1", 5.0, [3.0, -1.0, 0.5, 0.0]),
        ("l1", INFINITY, [3.0, -1.0, 0.5, 0.0]),
    ],
)
def test_steps_are_projected_onto_the_ball(norm, eps, expected):
    changes = torch.tensor([3.0, -1.0, 0.5, 0.0]).reshape(1, 1, 2, 2)
    both = torch.cat((changes, changes / 100))  # the second lies inside every ball
    projected = fmn._project(both, torch.full((2,), eps), norm)
    torch.testing.assert_close(projected[0].flatten(), torch.tensor(expected))
    torch.testing.assert_close(projected[1], both[1])


def test_without_an_adversarial_point_fmn_goes_beyond_its_linear_estimate(plane, inner, streams):
    labels = plane(inner).argmax(dim=1)
    crafted = FastMinimumNorm(norm="l2", steps=1).run(plane, inner, labels, streams(range(8)))
    assert (plane(crafted).argmax(dim=1) != labels).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_misclassified_sample_takes_no_step(attack, network, images, labels, streams, recorded):
    wrong = torch.tensor([False, True, False, False, True, False])
    labels = torch.where(wrong, (labels + 1) % 10, labels)
    recorder = recorded(network)
    attack.run(recorder, images, labels, streams(range(6)))
    # One pass is for the gradients of nine classes, which are as many steps; after the last step there is a look.
    assert recorder.batches == [6, *[4] * (passes_before_steps(attack) + attack.passes() - 9 + 1), 6]


def passes_before_steps(attack: Attack) -> int:
    """Both look at their first point before they take a step, and halve the way there; DDN the last tenth of it."""
    return 7 if isinstance(attack, FastMinimumNorm) else 5


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_batch_of_misclassified_samples_is_returned_unchanged(attack, network, images, labels, streams):
    assert torch.equal(attack.run(network, images, (labels + 1) % 10, streams(range(6))), images)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_the_model_receives_the_rows_of_its_samples(attack, network, images, labels, streams):
    wrong = torch.tensor([False, True, False, False, True, False])
    labels = torch.where(wrong, (labels + 1) % 10, labels)
    queried_rows: list[list[int]] = []

    class Aware(torch.nn.Module):
        def for_rows(self, rows: torch.Tensor) -> torch.nn.Module:
            queried_rows.append(rows.tolist())
            return network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert len(x) == 6, "a part of the batch without its rows"
            return network(x)

    attack.run(Aware().eval(), images, labels, streams(range(6)))
    assert queried_rows == [list(range(6)), *[[0, 2, 3, 5]] * (passes_before_steps(attack) + 100 - 9 + 1)]


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_confident_classifier_is_broken_although_its_cross_entropy_is_flat(attack, network, images, labels, streams):
    class Sure(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1000 * network(x)

    points = images.clone().requires_grad_()
    torch.nn.functional.cross_entropy(Sure()(points), labels, reduction="sum").backward()
    assert not points.grad.flatten(1).any(dim=1).all(), (
        "some sample must be without a gradient for this to show anything"
    )
    crafted = attack.run(Sure().eval(), images, labels, streams(range(6)))
    assert (network(crafted).argmax(dim=1) != labels).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_classifier_with_tiny_logits_is_broken(attack, network, images, labels, streams):
    class Faint(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1e-25 * network(x)  # the squares of its slopes are 0 in float32

    crafted = attack.run(Faint().eval(), images, labels, streams(range(6)))
    assert (network(crafted).argmax(dim=1) != labels).all()


class Rounding(torch.nn.Module):
    """Alone, a sample crosses the plane sooner than in the whole batch of eight."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.plane = Plane()
        self.shift = shift

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.plane(images)
        if len(images) < 8:
            return logits
        return logits + self.shift * torch.nn.functional.one_hot(logits.abs().argmax(dim=1) * 0, 2)


@pytest.mark.parametrize(("shift", "pushed"), [(1e-4, True), (0.5, False)])
def test_returned_points_are_misclassified_in_the_whole_batch(shift, pushed, inner):
    labels = torch.zeros(8, dtype=torch.int64)
    images = 0.5 + inner.sub(0.5).abs() * Plane().weight.sign().reshape(3, 4)  # all of the first class
    model = Rounding(shift).eval()
    nearest = NearestAdversarials(images, Goal(labels), "l2")
    rows = torch.arange(7)
    gap = model.plane(images)[:, 0] - model.plane(images)[:, 1]
    weight = model.plane.weight.reshape(3, 4)
    beyond = images - (1.0001 * gap / weight.square().sum()).reshape(-1, 1, 1, 1) * weight
    assert nearest.update(rows, beyond[:7], model(beyond[:7])).all()
    assert (model(torch.cat((beyond[:7], images[7:]))).argmax(dim=1) == labels).all(), "the batch must matter"
    points = nearest.verified(model)
    assert (model(points).argmax(dim=1)[:7] != labels[:7]).all() == pushed
    assert torch.equal(points[7], images[7])
    if not pushed:
        assert torch.equal(points, images)


@pytest.mark.parametrize(
    ("attack", "key", "text"),
    [
        (DecoupledDirectionAndNorm, "steps", "0"),
        (FastMinimumNorm, "steps", "0"),
        (FastMinimumNorm, "norm", "l0"),
        (FastMinimumNorm, "step_size", "0"),
    ],
)
def test_parameters_out_of_range_are_rejected(attack: type[Attack], key: str, text: str):
    with pytest.raises(ParameterError, match=rf"{key}={text}"):
        attack.from_text({key: text})


@pytest.mark.parametrize("distance", [1e-3, 5e-3, 2e-2])
def test_ddn_finds_boundaries_nearer_than_its_norm_can_shrink(distance, plane, streams):
    normal = plane.weight.reshape(1, 1, 3, 4) / plane.weight.norm()
    images = 0.5 + distance * torch.cat((normal, -normal))
    crafted = DecoupledDirectionAndNorm().run(plane, images, torch.tensor([0, 1]), streams(range(2)))
    assert plane(crafted).argmax(dim=1).tolist() == [1, 0]
    assert (lp_norm(crafted - images, "l2") <= 1.02 * distance).all()
