from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from tests.plugins.attacks.classifiers import Constant, Noisy

from advbench.api import Budget, Goal, ParameterError
from advbench_attacks.foolbox import catalogue as foolbox_catalogue
from advbench_attacks.foolbox import engine as foolbox_engine
from advbench_attacks.foolbox.attack import FoolboxAttack

pytestmark = pytest.mark.slow

QUICK = {"steps": 10, "directions": 20, "max_gradient_eval_steps": 20, "random_steps": 5}
EPS = {"linf": 0.2, "l2": 0.8, "l1": 3.0}
ORDERS = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}
REFUSED = {
    "BinarizationRefinementAttack": "refines the adversarial images of another attack",
    "DatasetAttack": "must be fed other images",
}
# These need numba, which is no dependency.
NEEDING_NUMBA = [f"{norm}BrendelBethgeAttack" for norm in ("L0", "L1", "L2", "Linfinity")]
TARGETED_ONLY = ["GenAttack"]
OFFERED = [name for name in foolbox_catalogue.names() if name not in (*REFUSED, *NEEDING_NUMBA, *TARGETED_ONLY)]


def quick(name: str, **more) -> FoolboxAttack:
    """The attack with few steps, and with an eps where it needs one."""
    chosen = foolbox_catalogue.find(name)
    takes = {parameter.name for parameter in foolbox_catalogue.parameters(chosen)}
    given = {key: value for key, value in QUICK.items() if key in takes}
    if foolbox_catalogue.needs_budget(chosen):
        given["eps"] = EPS[foolbox_catalogue.norm(chosen, {})]
    return FoolboxAttack(name, **{**given, **more})


def distances(crafted: torch.Tensor, images: torch.Tensor, norm: str) -> torch.Tensor:
    return torch.linalg.vector_norm((crafted - images).flatten(1), ORDERS[norm], dim=1)


def misclassified(network: torch.nn.Module, crafted: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Whether the network is fooled; an image on the very boundary counts, since rounding differs by batch."""
    logits = network(crafted)
    true = logits.gather(1, labels[:, None])[:, 0]
    return logits.scatter(1, labels[:, None], float("-inf")).amax(dim=1) > true - 1e-5


@pytest.mark.parametrize("name", OFFERED)
def test_an_attack_of_the_catalogue_keeps_the_contract(name, network, images, labels, streams):
    attack = quick(name)
    few, kept = images[:3], images[:3].clone()
    crafted = attack.run(network, few, labels[:3], streams(range(3)))
    assert torch.equal(few, kept)
    assert (crafted.dtype, crafted.shape, crafted.requires_grad) == (torch.float32, few.shape, False)
    assert crafted.isfinite().all()
    assert crafted.min() >= 0
    assert crafted.max() <= 1
    budget = attack.budget()
    if budget is None:
        is_adv = misclassified(network, crafted, labels[:3])
        assert torch.equal(crafted[~is_adv], few[~is_adv])
    else:
        assert (distances(crafted, few, budget.norm) <= budget.eps + 1e-6).all()
        assert (crafted != few).any()


@pytest.mark.parametrize("name", [*REFUSED, *NEEDING_NUMBA])
def test_an_incompatible_attack_is_rejected_with_the_reason(name):
    reason = foolbox_catalogue.incompatibility(vars(foolbox_engine.load().attacks)[name])
    if reason is None:
        pytest.skip("numba is installed")
    assert REFUSED.get(name, "needs numba") in reason
    with pytest.raises(ParameterError, match=rf"^attack={name}: .*{REFUSED.get(name, 'needs numba')}"):
        FoolboxAttack.from_text({"attack": name, "eps": "0.1"})


@pytest.mark.parametrize("name", OFFERED)
def test_without_adversarial_images_an_attack_keeps_clean_ones_or_its_budget(name, images, streams):
    attack = quick(name)
    labels = torch.zeros(2, dtype=torch.int64)
    crafted = attack.run(Constant().eval(), images[:2], labels, streams(range(2)))
    assert crafted.isfinite().all()
    budget = attack.budget()
    if budget is None:
        assert torch.equal(crafted, images[:2])
    else:
        assert (distances(crafted, images[:2], budget.norm) <= budget.eps + 1e-6).all()


@pytest.mark.parametrize(
    "name", ["LinfBasicIterativeAttack", "L2FastGradientAttack", "L2ContrastReductionAttack", "LinfFastGradientAttack"]
)
def test_a_budget_attack_that_draws_nothing_equals_foolbox(name, network, images, labels, streams, foolbox, by_hand):
    attack = quick(name)
    own = {key: value for key, value in attack.values().items() if key not in ("attack", "eps", "goal")}
    theirs = by_hand(getattr(foolbox.attacks, name)(**own), network, images, labels, attack.eps)
    ours = attack.run(network, images, labels, streams(range(6)))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "name",
    ["L2AdditiveGaussianNoiseAttack", "L2PGD", "SaltAndPepperNoiseAttack", "BoundaryAttack", "LinfFastGradientAttack"],
)
def test_a_samples_result_does_not_depend_on_its_batch(name, network, images, labels, streams):
    attack = quick(name, random_start=True) if name == "LinfFastGradientAttack" else quick(name)
    whole = attack.run(network, images, labels, streams(range(6)))
    parts = [attack.run(network, images[i], labels[i], streams(i.tolist())) for i in torch.arange(6).split([1, 3, 2])]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("EADAttack", {"abort_early": True, "initial_const": 1.0, "binary_search_steps": 3}),
        ("L2CarliniWagnerAttack", {"abort_early": True, "initial_const": 1.0, "binary_search_steps": 3}),
        ("SparseL1DescentAttack", {"eps": 12.0, "quantile": 0.5}),
    ],
)
def test_samples_do_not_affect_each_other_although_they_do_in_foolbox(name, more, network, images, labels, streams):
    attack = quick(name, **{"steps": 30, **more})
    whole = attack.run(network, images, labels, streams(range(6)))
    parts = [attack.run(network, images[i], labels[i], streams(i.tolist())) for i in torch.arange(6).split(1)]
    assert torch.equal(torch.cat(parts), whole)


def test_a_random_attack_does_not_change_global_generators(network, images, labels, streams):
    attack = quick("L2AdditiveGaussianNoiseAttack")
    crafted = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
        crafted.append(attack.run(network, images, labels, streams(range(6))))
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (str(np.random.get_state()), random.getstate()) == before[1:]
    assert torch.equal(*crafted)


def test_noise_depends_on_seed_and_sample(network, images, labels, streams):
    attack = quick("L2AdditiveGaussianNoiseAttack")
    same = images[:1].expand(6, -1, -1, -1) * 0.5 + 0.25
    one, other = (attack.run(network, same, labels[:1].expand(6), streams(range(6), seed)) for seed in (0, 1))
    assert len(torch.cat([one, other]).flatten(1).unique(dim=0)) == 12


def test_an_attack_that_draws_nothing_runs_the_batch_at_once(network, images, labels, streams, recorded):
    model = recorded(network)
    quick("LinfBasicIterativeAttack", steps=3).run(model, images, labels, streams(range(6)))
    assert model.batches == [1, 1, 1, 5, 5, 5]


def test_a_minimal_attack_leaves_out_what_is_misclassified_already(network, images, labels, streams, recorded):
    wrong = torch.tensor([True, False, False, True, False, True])
    model = recorded(network)
    crafted = quick("L2DeepFoolAttack").run(
        model, images, torch.where(wrong, (labels + 1) % 10, labels), streams(range(6))
    )
    assert torch.equal(crafted[wrong], images[wrong])
    assert (crafted[~wrong] != images[~wrong]).flatten(1).any(dim=1).all()
    assert set(model.batches) == {6, 1, 2}


def test_a_sample_whose_gradient_is_not_a_number_keeps_its_clean_image(network, images, labels, streams):
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # The root's slope at 0 is infinite, and 0 · ∞ is not a number.
            scale = (x[:, 0, 0, 0] > 0.5) + 0.0
            return network(x) + ((x.flatten(1).sum(dim=1) * scale).sqrt() * 1e-6)[:, None]

    bad = images[:, 0, 0, 0] <= 0.5
    assert bad.any()
    assert not bad.all()
    crafted = FoolboxAttack("FGM", eps=0.5).run(Broken().eval(), images, labels, streams(range(6)))
    assert torch.equal(crafted[bad], images[bad])
    assert (crafted[~bad] != images[~bad]).flatten(1).any(dim=1).all()


@pytest.mark.parametrize(
    ("name", "more", "norm"),
    [
        ("L2DeepFoolAttack", {}, "l2"),
        ("LinfDeepFoolAttack", {}, "linf"),
        ("EADAttack", {"steps": 50, "initial_const": 1.0}, "l1"),
        ("HopSkipJumpAttack", {"constraint": "linf"}, "linf"),
        ("GaussianBlurAttack", {"norm": "linf"}, "linf"),
        ("LinearSearchBlendedUniformNoiseAttack", {}, "l2"),
    ],
)
def test_a_minimal_attack_with_eps_keeps_what_fools_within_it(name, more, norm, network, images, labels, streams):
    free = quick(name, **more).run(network, images, labels, streams(range(6)))
    is_adv = distances(free, images, norm)
    eps = float(is_adv[is_adv > 0].median())
    assert (is_adv > eps).any()
    attack = quick(name, **more, eps=eps)
    crafted = attack.run(network, images, labels, streams(range(6)))
    assert attack.budget() == Budget(norm, eps)
    assert (distances(crafted, images, norm) <= eps + 1e-6).all()
    changed = (crafted != images).flatten(1).any(dim=1)
    assert changed.any()
    assert misclassified(network, crafted, labels)[changed].all()
    near = is_adv < eps - 1e-5
    torch.testing.assert_close(crafted[near], free[near], atol=1e-6, rtol=0)


def test_a_perturbation_of_more_pixels_than_an_l0_budget_is_none(images):
    class Growing:
        """Changes one pixel more in each image than in the one before."""

        def run(self, model, x, criterion):
            pixels = torch.arange(36).expand(6, 36).reshape(6, 1, 6, 6)
            return torch.where(pixels <= torch.arange(6)[:, None, None, None], 1 - x, x)

    wrong = torch.ones(6, dtype=torch.int64)
    is_adv = foolbox_engine.find_adversarials(Growing(), Constant().eval(), images, Goal(wrong), eps=3.0, norm="l0")
    assert (is_adv != images).flatten(1).sum(dim=1).tolist() == [1, 2, 3, 0, 0, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"eps": "0.3"}, r"^needs attack="),
        ({"attack": "LinfBasicIterativeAtack"}, r"did you mean 'LinfBasicIterativeAttack'\?"),
        ({"attack": "l2pgd", "eps": "1"}, r"did you mean 'L2PGD'\?"),
        ({"attack": "zzz"}, r"foolbox.attacks has no such attack; it has BinarizationRefinementAttack, .*, VirtualAdv"),
        ({"attack": "Attack"}, r"no such attack"),
        ({"attack": "L2PGD"}, r"needs eps=…: largest perturbation"),
        ({"attack": "L2PGD", "eps": "none"}, r"^eps=none: must be a number of at least 0$"),
        ({"attack": "VirtualAdversarialAttack", "eps": "1"}, r"needs steps=…: Number of update steps"),
        ({"attack": "L2PGD", "eps": "1", "step": "3"}, r"has no parameter 'step'; did you mean 'steps'\?"),
        ({"attack": "L2PGD", "eps": "1", "steps": "many"}, r"^steps=many: must be a whole number of at least 1$"),
        ({"attack": "L2PGD", "eps": "1", "steps": "0"}, r"^steps=0: must be a whole number of at least 1$"),
        ({"attack": "L2PGD", "eps": "1", "random_start": "1"}, r"^random_start=1: must be true or false$"),
        ({"attack": "EADAttack", "decision_rule": "L2"}, r"^decision_rule=L2: must be one of EN, L1$"),
        ({"attack": "L2DeepFoolAttack", "candidates": "1"}, r"^candidates=1: must be a whole number of at least 2"),
        ({"attack": "BoundaryAttack", "tensorboard": "logs"}, r"has no parameter 'tensorboard'"),
        ({"attack": "BoundaryAttack", "init_attack": "FGSM"}, r"has no parameter 'init_attack'"),
        ({"attack": "SpatialAttack", "eps": "1"}, r"has no parameter 'eps'"),
        ({"attack": "SparseL1DescentAttack", "eps": "1", "quantile": "2"}, r"quantile needs to be between 0 and 1"),
    ],
)
def test_what_cannot_be_used_is_refused_when_it_is_parsed(given, message):
    with pytest.raises(ParameterError, match=message):
        FoolboxAttack.from_text(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"attack": "L2PGD"}, r"attack=L2PGD needs eps="),
        ({"attack": "L2PGD", "eps": 1.0, "step": 3}, r"attack=L2PGD has no parameter 'step'; did you mean 'steps'\?"),
        ({"attack": "L2PGD", "eps": 1.0, "steps": "3"}, r"steps=3: must be a whole number"),
    ],
)
def test_what_cannot_be_used_is_refused_from_python_too(given, message):
    with pytest.raises(ParameterError, match=message):
        FoolboxAttack(**given)


def test_values_hold_every_parameter_with_its_default():
    attack = FoolboxAttack.from_text({"attack": "PGD", "eps": "8/255", "steps": "7"})
    assert attack.values() == {
        "attack": "LinfProjectedGradientDescentAttack",
        "eps": 8 / 255,
        "rel_stepsize": 0.01 / 0.3,
        "abs_stepsize": None,
        "steps": 7,
        "random_start": True,
        "goal": "untargeted",
    }
    assert FoolboxAttack.from_values(attack.values()) == attack


@pytest.mark.parametrize("name", OFFERED)
def test_an_attack_is_rebuilt_from_its_values(name):
    attack = quick(name)
    assert [parameter.name for parameter in FoolboxAttack.parameters({"attack": name})] == list(attack.values())
    assert FoolboxAttack.from_values(attack.values()) == attack


def test_equal_parameters_make_equal_attacks_however_they_were_given():
    plain = FoolboxAttack.from_text({"attack": "LinfPGD", "eps": "0.3"})
    spelled = FoolboxAttack.from_text(
        {"attack": "LinfProjectedGradientDescentAttack", "steps": "40", "eps": "0.3", "random_start": "true"}
    )
    assert plain == spelled
    assert hash(plain) == hash(spelled)
    assert plain != FoolboxAttack("LinfPGD", eps=0.3, steps=41)


def test_without_an_attack_the_shared_parameters_are_shown():
    shown = [(one.name, one.required) for one in FoolboxAttack.parameters()]
    assert shown == [("attack", True), ("eps", False), ("goal", False)]


@pytest.mark.parametrize(
    ("text", "names"),
    [("FGSM", ["attack", "eps", "random_start"]), ("L2AdditiveUniformNoiseAttack", ["attack", "eps"])],
)
def test_an_attacks_own_arguments_follow_the_shared_ones(text, names):
    assert [parameter.name for parameter in FoolboxAttack.parameters({"attack": text})] == names


@pytest.mark.parametrize("name", ["HopSkipJumpAttack", "BoundaryAttack"])
def test_a_stochastic_classifier_that_changes_its_answer_is_named(name, network, images, labels, streams):
    class Whimsical(Noisy):
        """Gives the network's class in half of all draws, and another class in the others."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = super().forward(images)
            return torch.where(self.rng.bernoulli(0.5)[:, None], logits, -logits)

        def for_rows(self, rows: torch.Tensor) -> Noisy:
            return Whimsical(self.network, self.rng[rows])

    classifier = Whimsical(network, streams(range(len(images)), 1))
    with pytest.raises(RuntimeError, match=f"{name} ended, since an image that fooled the stochastic classifier"):
        quick(name).run(classifier, images, labels, streams(range(len(images))))
