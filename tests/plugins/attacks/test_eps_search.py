"""Which parameters go with ``search=none``, and which with ``search=minimal``."""

from __future__ import annotations

import pytest

from advbench.api import Budget, ParameterError
from advbench.cli.main import main
from advbench.discovery.loading import discover
from advbench.specs import full_spec, resolve_one, short_spec
from advbench_attacks.foolbox.attack import FoolboxAttack
from advbench_attacks.gradient.fgsm import FastGradientSign
from advbench_attacks.gradient.pgd import ProjectedGradientDescent
from advbench_attacks.minimal.cw import CarliniWagnerL2
from advbench_attacks.minimal.deepfool import DeepFool

REGISTRY = discover()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "fgsm:search=minimal,eps=0.1",
            "eps has no meaning with search=minimal, which searches eps itself",
        ),
        ("fgsm:eps=0.3,search=minimal", "eps has no meaning with search=minimal"),
        ("fgsm:max_eps=0.5", "max_eps has no meaning with search=none; add search=minimal"),
        ("fgsm:search=none,max_eps=1", "max_eps has no meaning with search=none"),
        ("pgd:search=minimal,eps=0.3", "eps has no meaning with search=minimal"),
        ("pgd:search_steps=5", "search_steps has no meaning with search=none; add search=minimal"),
        ("pgd:search=minimal,early_stop=true", "early_stop has no meaning with search=minimal; add search=none"),
        ("fgsm:search=minimal,engine=foolbox", "engine has no meaning with search=minimal; add search=none"),
        ("pgd:early_stop=true,engine=foolbox", "early_stop=true has no meaning with engine=foolbox, whose PGD takes"),
        (
            "pgd:norm=l2,engine=foolbox",
            "norm=l2 has no meaning with engine=foolbox; use engine=native or foolbox:",
        ),
        ("fgsm:norm=l2,engine=foolbox", "norm=l2 has no meaning with engine=foolbox; use engine=native or foolbox:"),
        (
            "fgsm:loss=dlr,engine=foolbox",
            "loss=dlr has no meaning with engine=foolbox, which follows the cross-",
        ),
        (
            "pgd:loss=margin,engine=foolbox",
            "loss=margin has no meaning with engine=foolbox, which follows the cross-",
        ),
        ("pgd:restarts=2,engine=foolbox", "restarts=2 has no meaning with engine=foolbox, which runs once"),
        ("pgd:restarts=2,random_start=false", "restarts=2 with random_start=false would repeat one run; leave one out"),
        ("pgd:search=minimal,restarts=2", "restarts has no meaning with search=minimal; add search=none"),
        ("pgd:search=minimal,norm=l2", "norm has no meaning with search=minimal; add search=none"),
        ("fgsm:search=minimal,norm=l2", "norm has no meaning with search=minimal; add search=none"),
        ("fgsm:search=minimal,loss=dlr", "loss has no meaning with search=minimal; add search=none"),
        ("pgd:targets=3", "targets has no meaning with search=none; add search=minimal"),
        (
            "pgd:search=foolbox2,goal=next",
            "goal has no meaning with search=foolbox2, which is untargeted as in Foolbox",
        ),
        ("fgsm:search=foolbox2,goal=2", "goal has no meaning with search=foolbox2, which is untargeted as in Foolbox"),
        (
            "pgd:search=minimal,targets=2,goal=next",
            "targets has no meaning with goal=next, which names the target class",
        ),
        (
            "fgsm:goal=other",
            "goal=other: must be one of untargeted, random, next, second, least-likely or a class number",
        ),
        ("autoattack:goal=next", "goal=next: autoattack is untargeted by definition; use apgd-t:goal=next"),
        ("deepfool:goal=3", "goal=3: deepfool goes to the nearest class, whichever it is; use fmn:goal=3"),
        ("noise:goal=next", "goal=next: noise does not aim at anything; use square:goal=next"),
        (
            "rays:goal=next",
            "goal=next: its first directions hardly ever lead to a given class; use square:goal=next",
        ),
        (
            "apgd-t:goal=next,targets=3",
            "targets has no meaning with goal=next, which names the target class; leave one",
        ),
        ("fab-t:targets=9,goal=3", "targets has no meaning with goal=3, which names the target class; leave one out"),
        (
            "foolbox:attack=L2DeepFoolAttack,goal=next",
            "attack=L2DeepFoolAttack cannot be targeted: Foolbox has it for any",
        ),
        (
            "foolbox:attack=BoundaryAttack,goal=next",
            "attack=BoundaryAttack cannot be targeted: it must start at an image",
        ),
        ("foolbox:attack=GenAttack,eps=0.1", "attack=GenAttack works only towards a target class; add goal=…"),
        ("pgd:restarts=0", "restarts=0: must be a whole number of at least 1"),
        ("pgd:search=minimum,eps=0.3", "search=minimum: must be one of none, minimal"),
        ("pgd:search=minimal,max_eps=0", "max_eps=0: must be a number above 0"),
        ("pgd:search=minimal,max_eps=1.5", "max_eps=1.5: must be a number"),
        ("pgd:search=minimal,search_steps=-1", "search_steps=-1: must be a whole number of at least 0"),
        ("pgd:search=minimal,searchsteps=3", "has no parameter 'searchsteps'; did you mean 'search_steps'?"),
    ],
)
def test_a_parameter_without_effect_is_a_one_line_usage_error(spec, message, tmp_path, capsys):
    words = ["matrix", "--datasets", "mnist-20", "--models", "mnist-cnn", "--attacks", spec, "--defenses", "none"]
    assert main([*words, "--store", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert f"attack {spec.split(':')[0]!r}: {message}" in captured.err
    assert not captured.out


@pytest.mark.parametrize(
    ("spec", "full"),
    [
        ("fgsm", "fgsm:eps=0.3,search=none,engine=native,norm=linf,loss=ce,goal=untargeted"),
        ("fgsm:search=minimal", "fgsm:search=minimal,max_eps=1,goal=untargeted"),
        ("fgsm:search=minimal,max_eps=8/255,goal=3", "fgsm:search=minimal,max_eps=8/255,goal=3"),
        (
            "pgd:eps=0.1",
            "pgd:eps=0.1,steps=40,step_size=none,random_start=true,search=none,early_stop=false,engine=native,"
            "norm=linf,loss=ce,restarts=1,goal=untargeted",
        ),
        (
            "pgd:search=minimal,steps=20",
            "pgd:steps=20,step_size=none,random_start=true,search=minimal,max_eps=1,search_steps=3,targets=none,"
            "goal=untargeted",
        ),
        (
            "pgd:search=minimal,steps=20,goal=next",
            "pgd:steps=20,step_size=none,random_start=true,search=minimal,max_eps=1,search_steps=3,goal=next",
        ),
    ],
)
def test_a_spec_has_only_the_parameters_of_its_mode(spec, full):
    attack = resolve_one(REGISTRY, "attacks", spec)
    assert full_spec(attack) == full
    assert resolve_one(REGISTRY, "attacks", full) == attack
    assert resolve_one(REGISTRY, "attacks", short_spec(attack)) == attack


def test_info_shows_the_parameters_of_both_modes_or_of_the_given_one():
    def names(**given):
        return [parameter.name for parameter in FastGradientSign.parameters(given)]

    assert names() == ["eps", "search", "max_eps", "engine", "norm", "loss", "goal"]
    assert names(search="none") == ["eps", "search", "engine", "norm", "loss", "goal"]
    assert names(search="minimal") == ["search", "max_eps", "goal"]


def test_in_python_too_a_parameter_without_effect_is_rejected():
    with pytest.raises(ParameterError, match="eps has no meaning"):
        FastGradientSign(eps=0.1, search="minimal")
    with pytest.raises(ParameterError, match="max_eps has no meaning"):
        ProjectedGradientDescent(max_eps=0.5)


@pytest.mark.parametrize(
    ("attack", "budget", "norm"),
    [
        (FastGradientSign(0.2), Budget("linf", 0.2), None),
        (FastGradientSign(0.2, norm="l2"), Budget("l2", 0.2), None),
        (ProjectedGradientDescent(0.1, norm="l2"), Budget("l2", 0.1), None),
        (FastGradientSign(search="minimal"), None, "linf"),
        (ProjectedGradientDescent(0.1), Budget("linf", 0.1), None),
        (ProjectedGradientDescent(search="minimal"), None, "linf"),
        (DeepFool(), None, "l2"),
        (DeepFool(norm="linf"), None, "linf"),
        (CarliniWagnerL2(), None, "l2"),
        (FoolboxAttack("EADAttack"), None, "l1"),
    ],
    ids=str,
)
def test_an_attack_has_a_budget_or_a_minimized_norm(attack, budget, norm):
    assert attack.budget() == budget
    if budget is None:
        assert attack.minimized_norm() == norm
