from __future__ import annotations

import pytest
import torch

from advbench.api import Attack, ParameterError
from advbench_attacks.minimal import deepfool_search
from advbench_attacks.minimal.cw import CarliniWagnerL2
from advbench_attacks.minimal.deepfool import DeepFool
from advbench_attacks.norms import lp_norm

pytestmark = pytest.mark.slow

ENGINES = ("native", "foolbox")
ATTACKS = [
    attack
    for engine in ENGINES
    for attack in (
        DeepFool(engine=engine),
        DeepFool(norm="linf", engine=engine),
        CarliniWagnerL2(search_steps=3, steps=100, learning_rate=0.05, engine=engine),
    )
]


class Affine(torch.nn.Module):
    """Three classes whose boundaries are planes with weights of very different sizes."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        sizes = torch.linspace(0.05, 2.0, 12)
        self.weight = torch.nn.Parameter(torch.randn(3, 12, generator=generator) * sizes, requires_grad=False)
        self.centre = torch.full((12,), 0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.flatten(1) - self.centre) @ self.weight.T

    def distance(self, images: torch.Tensor, labels: torch.Tensor, dual: float) -> torch.Tensor:
        """The distance to the nearest other class, |f(x)|/‖w‖ in the dual norm."""
        logits = self(images)
        distances = []
        for i, label in enumerate(labels.tolist()):
            others = [k for k in range(3) if k != label]
            gap = logits[i, label] - logits[i, others]
            distances.append((gap / torch.linalg.vector_norm(self.weight[label] - self.weight[others], dual, 1)).min())
        return torch.stack(distances)


@pytest.fixture
def affine() -> Affine:
    return Affine().eval()


@pytest.fixture
def inner() -> torch.Tensor:
    """Images so far inside [0, 1] that the bounds keep no attack from the boundary."""
    return 0.5 + (torch.rand(8, 1, 3, 4, generator=torch.Generator().manual_seed(4)) - 0.5) * 0.4


@pytest.mark.parametrize(
    ("attack", "order", "dual"),
    [
        one
        for engine in ENGINES
        for one in (
            (DeepFool(overshoot=0.01, engine=engine), 2, 2),
            (DeepFool(overshoot=0.01, norm="linf", engine=engine), float("inf"), 1),
            (CarliniWagnerL2(7, 200, 0.01, initial_const=0.1, engine=engine), 2, 2),
        )
    ],
    ids=lambda value: str(value) if isinstance(value, Attack) else "",
)
def test_the_perturbation_of_an_affine_classifier_is_the_smallest_one(attack, order, dual, affine, inner, streams):
    labels = affine(inner).argmax(dim=1)
    apart = affine.distance(inner, labels, 2) > 0.01  # what lies on a boundary has no distance to measure
    assert apart.sum() >= 6
    inner, labels = inner[apart], labels[apart]
    crafted = attack.run(affine, inner, labels, streams(range(len(inner))))
    found = torch.linalg.vector_norm((crafted - inner).flatten(1), order, dim=1)
    smallest = affine.distance(inner, labels, dual)
    assert (affine(crafted).argmax(dim=1) != labels).all()
    assert (found >= smallest * 0.999).all()
    slack = 1.1e-4 if attack.engine == "foolbox" else 0.0  # its DeepFool makes every step 1e-4 longer
    assert (found <= smallest * 1.02 + slack).all()


@pytest.mark.parametrize("overshoot", [0.0, 0.01, 0.02])
@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_deepfool_goes_hardly_beyond_a_boundary_that_is_very_near(norm, dual, overshoot, streams):
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(784, generator=generator) * torch.linspace(0.05, 2.0, 784)
    plane = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 2)).eval().requires_grad_(False)
    plane[1].weight.copy_(torch.stack((weight, -weight)))
    plane[1].bias.copy_(torch.tensor([-0.5, 0.5]) * weight.sum())
    images = 0.5 + 0.02 * torch.randn(8, 1, 28, 28, generator=generator)
    logits = plane(images)
    smallest = (logits[:, 0] - logits[:, 1]).abs() / (2 * weight.norm(p=dual))
    assert norm == "l2" or smallest.max() < 3e-3
    crafted = DeepFool(norm=norm, overshoot=overshoot).run(plane, images, logits.argmax(dim=1), streams(range(8)))
    found = torch.linalg.vector_norm((crafted - images).flatten(1), {"l2": 2, "linf": float("inf")}[norm], dim=1)
    assert (plane(crafted).argmax(dim=1) != logits.argmax(dim=1)).all()
    assert (found <= (1.0002 if overshoot == 0 else 1 + overshoot) * smallest).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool_takes_its_own_gradients_where_the_caller_records_none(norm, network, images, labels, streams):
    attack = DeepFool(norm=norm)
    with torch.no_grad():
        crafted = attack.run(network, images, labels, streams(range(6)))
    assert torch.equal(crafted, attack.run(network, images, labels, streams(range(6))))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_deepfool_that_rounding_undoes_in_the_whole_batch_goes_a_little_farther(norm, affine, inner, streams):
    class Rounding(torch.nn.Module):
        """Asked without a graph about all, as at the end, it favours the true class a little."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            all_at_once = len(x) == 8 and not torch.is_grad_enabled()
            return affine(x) + (shift if all_at_once else 0)

    first, second = affine(inner).topk(2, dim=1).values.T
    labels = affine(inner).argmax(dim=1)
    shift = 5e-4 * (first - second)[:, None] * torch.nn.functional.one_hot(labels, 3)
    attack = DeepFool(norm=norm, overshoot=0)
    exact = attack.run(affine, inner, labels, streams(range(8)))
    model = Rounding().eval()
    crafted = attack.run(model, inner, labels, streams(range(8)))
    with torch.no_grad():
        assert (model(exact).argmax(dim=1) == labels).all(), "the rounding must matter"
        assert (model(crafted).argmax(dim=1) != labels).all()
    assert (lp_norm(crafted - inner, norm) <= 1.01 * lp_norm(exact - inner, norm)).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_every_sample_is_fooled_and_the_inputs_stay_as_they_were(attack, network, images, labels, streams):
    kept = images.clone()
    crafted = attack.run(network, images, labels, streams(range(6)))
    assert attack.budget() is None
    assert (network(crafted).argmax(dim=1) != labels).all()
    assert crafted.min() >= 0
    assert crafted.max() <= 1
    assert (crafted.dtype, crafted.shape, crafted.requires_grad) == (torch.float32, images.shape, False)
    assert torch.equal(images, kept)


@pytest.mark.parametrize("candidates", [3, 10])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_both_engines_of_deepfool_find_the_same_images(norm, candidates, network, many, streams, monkeypatch):
    nearer = DeepFool(norm=norm, candidates=candidates).run(network, *many, streams(range(100)))
    monkeypatch.setattr(deepfool_search, "_EXTRA_SHARE", 1e9)  # always 1e-4, as Foolbox
    ours, theirs = (
        DeepFool(norm=norm, candidates=candidates, engine=engine).run(network, *many, streams(range(100)))
        for engine in ENGINES
    )
    assert not torch.equal(ours, many[0])
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
    before, after = lp_norm(theirs - many[0], norm), lp_norm(nearer - many[0], norm)
    assert (after < before).sum() > 3 * (after > before).sum()  # a step less far may leave one more to take


def test_native_cw_fools_what_foolbox_fools_and_stays_as_near_with_fewer_passes(network, many, streams, recorded):
    images, labels = many
    passes, sizes = [], []
    for engine in ENGINES:
        recorder = recorded(network)
        crafted = CarliniWagnerL2(search_steps=5, steps=400, engine=engine).run(
            recorder, images, labels, streams(range(100))
        )
        assert (network(crafted).argmax(dim=1) != labels).all()
        passes.append(sum(recorder.batches))
        sizes.append((crafted - images).flatten(1).norm(dim=1))
    assert sizes[0].median() <= 1.01 * sizes[1].median()
    assert sizes[0].mean() <= 1.01 * sizes[1].mean()
    assert (sizes[0] <= 1.1 * sizes[1]).float().mean() > 0.95
    assert passes[0] < 0.5 * passes[1]


def test_native_deepfool_lets_samples_leave_that_are_done(network, images, labels, streams, recorded):
    near = DeepFool().run(network, images[:1], labels[:1], streams([0]))
    away = images[:1] - near
    along = near + torch.tensor([1e-3, 0.5, 1.0]).reshape(3, 1, 1, 1) * away  # one of them a hair before the boundary
    recorder = recorded(network)
    DeepFool(overshoot=0.0).run(
        recorder, torch.cat((along, images)), torch.cat((labels[:1].repeat(3), labels)), streams(range(9))
    )
    assert sorted(recorder.batches[1:-1], reverse=True) == recorder.batches[1:-1]
    assert recorder.batches[-2] < 9


class Backward(torch.nn.Module):
    """Counts the images whose gradient is asked for."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.images = network, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.network(images)
        if logits.requires_grad:
            logits.register_hook(self.count)
        return logits

    def count(self, gradient: torch.Tensor) -> None:
        self.images += len(gradient)


class Wavy(torch.nn.Module):
    """A network whose slopes are other ones at every point."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.network(images)
        return logits + torch.sin(3 * logits.roll(1, dims=1)) / 3


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("wavy", [False, True])
def test_native_deepfool_passes_over_boundaries_that_are_not_the_nearest(
    wavy, norm, network, many, streams, monkeypatch
):
    images, passes, crafted = many[0], [], []
    network = Wavy(network).eval() if wavy else network
    labels = network(images).argmax(dim=1)
    for steeper in (deepfool_search._MAX_SLOPE_GROWTH, 1e30):  # with the latter it looks at all of them every time
        monkeypatch.setattr(deepfool_search, "_MAX_SLOPE_GROWTH", steeper)
        counting = Backward(network).eval()
        crafted.append(DeepFool(norm=norm).run(counting, images, labels, streams(range(100))))
        passes.append(counting.images)
    torch.testing.assert_close(crafted[0], crafted[1], atol=1e-5, rtol=0)
    assert passes[0] < (0.95 if wavy else 0.8) * passes[1]  # most of these images take a step or two


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool_equals_foolbox_to_the_bit(norm, network, images, labels, streams, foolbox, by_hand):
    theirs = {"l2": foolbox.attacks.L2DeepFoolAttack, "linf": foolbox.attacks.LinfDeepFoolAttack}[norm]()
    ours = DeepFool(norm=norm, engine="foolbox").run(network, images, labels, streams(range(6)))
    assert torch.equal(ours, by_hand(theirs, network, images, labels, None))


def test_cw_equals_foolbox_without_its_early_abort_to_the_bit(network, images, labels, streams, foolbox, by_hand):
    attack = CarliniWagnerL2(search_steps=3, steps=50, learning_rate=0.05, engine="foolbox")
    ours = attack.run(network, images, labels, streams(range(6)))
    theirs = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=3, steps=50, stepsize=0.05, initial_const=1e-2, abort_early=False
    )
    assert torch.equal(ours, by_hand(theirs, network, images, labels, None))


def test_a_search_of_cw_without_success_does_not_return_black_images(network, images, labels, streams):
    black = network(torch.zeros_like(images[:1])).argmax(dim=1)
    assert (labels != black).any(), "a black image must count as misclassified for this to show anything"
    for engine in ENGINES:
        # The native search begins near the boundary: across it, but not by so much.
        hopeless = CarliniWagnerL2(search_steps=1, steps=1, learning_rate=1e-6, confidence=100.0, engine=engine)
        assert torch.equal(hopeless.run(network, images, labels, streams(range(6))), images)


def test_a_constant_far_too_small_costs_no_steps_of_cw_unless_it_is_the_last(
    network, images, labels, streams, recorded
):
    recorder = recorded(network)
    CarliniWagnerL2(search_steps=3, steps=200, initial_const=1e-9, confidence=1.0).run(
        recorder, images, labels, streams(range(6))
    )
    few = recorded(network)
    CarliniWagnerL2(search_steps=1, steps=200, initial_const=1e-7, confidence=1.0).run(
        few, images, labels, streams(range(6))
    )
    assert recorder.batches == few.batches
    assert len(few.batches) > 1


def test_a_deepfool_cut_short_keeps_the_clean_image_of_those_not_fooled(network, images, labels, streams):
    crafted = DeepFool(steps=1, overshoot=0.0).run(network, images, labels, streams(range(6)))
    fooled = network(crafted).argmax(dim=1) != labels
    assert not fooled.all()
    assert torch.equal(crafted[~fooled], images[~fooled])


def test_more_candidates_than_classes_are_all_classes(affine, inner, streams):
    labels = affine(inner).argmax(dim=1)
    all_three, many = (
        DeepFool(candidates=candidates).run(affine, inner, labels, streams(range(8))) for candidates in (3, 100)
    )
    assert torch.equal(all_three, many)


def test_confidence_buys_a_margin_with_a_larger_perturbation(affine, inner, streams):
    labels = affine(inner).argmax(dim=1)
    plain, sure = (
        CarliniWagnerL2(search_steps=4, steps=100, learning_rate=0.05, initial_const=1.0, confidence=confidence).run(
            affine, inner, labels, streams(range(8))
        )
        for confidence in (0.0, 0.2)
    )
    logits = affine(sure)
    true = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], float("-inf")).amax(dim=1)
    assert (others - true >= 0.2 - 1e-5).all()
    assert ((sure - inner).flatten(1).norm(dim=1) > (plain - inner).flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize(
    ("attack", "key", "text"),
    [
        (DeepFool, "candidates", "1"),
        (DeepFool, "norm", "l1"),
        (DeepFool, "overshoot", "-0.1"),
        (CarliniWagnerL2, "learning_rate", "0"),
        (CarliniWagnerL2, "confidence", "-1"),
    ],
)
def test_parameters_out_of_range_are_refused(attack, key, text):
    with pytest.raises(ParameterError, match=rf"{key}={text}"):
        attack.from_text({key: text})
