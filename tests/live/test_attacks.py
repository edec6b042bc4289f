"""Plain functions as attacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import advbench
from advbench.api import SampleRandom
from advbench.errors import UsageError

pytestmark = pytest.mark.slow

STEP = {"eps": 0.1}
ONE: dict[str, Any] = {"defenses": "toy-keep", "limit": 20}


def sign(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    start = images.clone().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(model(start), labels, reduction="sum")
    return (images + torch.autograd.grad(loss, start)[0].sign() * STEP["eps"]).clamp(0, 1)


def brighter(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.where((model(images).argmax(dim=1) == labels)[:, None, None, None], images + 0.1, images).clamp(0, 1)


def noise(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    return (images + random.uniform(*images.shape[1:], low=-0.1, high=0.1)).clamp(0, 1)


def with_attributes(function: Any, **attributes: Any) -> Any:
    """A copy of a function with other attributes."""

    def attack(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return function(model, images, labels)  # type: ignore[no-any-return]

    vars(attack).update(attributes)
    return attack


def test_a_function_is_an_attack_without_a_budget(evaluate: Callable[..., advbench.Results]) -> None:
    results = evaluate(attacks=["toy-sign", sign], **ONE)
    toy, mine = results.data["cells"]
    assert (mine["attack"], mine["attack_kind"], mine["budget"]) == ("sign", "minimal", None)
    assert mine["robust_accuracy"] == toy["robust_accuracy"] < mine["clean_accuracy"]
    assert (results.adversarial(attack="sign").images == results.adversarial(attack="toy-sign").images).all()


def test_attributes_are_the_budget_which_is_checked(evaluate: Callable[..., advbench.Results]) -> None:
    within = with_attributes(brighter, norm="linf", eps=0.1, access="scores")
    beyond = with_attributes(sign, norm="linf", eps=0.05)
    results = evaluate(attacks={"within": within, "beyond": beyond}, **ONE)
    cells = results.data["cells"]
    assert cells[0]["budget"] == {"norm": "linf", "eps": 0.1}
    assert cells[0]["status"] == "ok"
    assert results._run.manifest["cells"][0]["attack_access"] == "scores"
    assert cells[1]["status"] == "error"
    assert "its budget is 0.05" in cells[1]["error"]


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (
            "scores",
            "ContractError: attack 'liar' asked for a gradient, but declares access = 'scores'; declare 'gradients'",
        ),
        ("nothing", "ContractError: attack 'liar' called the model, but declares access = 'nothing'"),
    ],
)
def test_an_attack_gets_no_more_than_its_access(
    access: str, expected: str, evaluate: Callable[..., advbench.Results]
) -> None:
    results = evaluate(attacks={"liar": with_attributes(sign, access=access)}, **ONE)
    assert results.data["cells"][0]["error"].startswith(expected)


def test_a_fourth_argument_has_the_random_streams(evaluate: Callable[..., advbench.Results]) -> None:
    made = [evaluate(attacks=noise, **ONE, seed=seed, rerun="all").adversarial() for seed in (0, 0, 1)]
    assert (made[0].images == made[1].images).all()
    rows = [dict(zip(one.ids.tolist(), one.images, strict=True)) for one in made]
    shared = next(number for number in rows[0] if number in rows[2])
    assert (rows[0][shared] != rows[2][shared]).any()


def test_values_that_the_function_uses_are_in_the_key(
    evaluate: Callable[..., advbench.Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    strong = evaluate(attacks=sign, **ONE).rows()[0]["robust_accuracy"]
    monkeypatch.setitem(STEP, "eps", 0.01)
    assert evaluate(attacks=sign, **ONE).rows()[0]["robust_accuracy"] > strong


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (lambda images: images, "attacks: the function <lambda> takes other arguments; an attack takes (model, images"),
        (with_attributes(sign, norm="l3"), "the function attack has the norm 'l3'; there are: linf, l2, l1, l0"),
        (with_attributes(sign, eps=0.1), "the function attack has an eps but no attribute norm, such as 'linf'"),
        (with_attributes(sign, norm="l2", eps=-1), "the function attack has eps = -1; it must be a number from 0"),
        (with_attributes(sign, access="all"), "has the access 'all'; there are: gradients, scores, labels, nothing"),
        (
            torch.nn.Flatten(),
            "attacks: an object of Flatten cannot be used here; give a spec, an Attack, or a function",
        ),
    ],
)
def test_what_is_no_attack_is_refused(evaluate: Callable[..., advbench.Results], attack: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        evaluate(attacks={"mine": attack}, **ONE)
    assert message in str(raised.value)
