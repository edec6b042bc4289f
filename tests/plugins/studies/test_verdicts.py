"""A condition that a few images or their draw decide is undecided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.plugins.studies.paper_world import World

from advbench_studies.paper2019.claims import CLAIMS
from advbench_studies.paper2019.report_layout import tally
from advbench_studies.paper2019.resampling import RESAMPLES, Outcomes, resampled_spread
from advbench_studies.paper2019.setting import PROTOCOLS
from advbench_studies.paper2019.verdict import Check, Reading, at_least, check, decide

N = 1000


def outcomes(correct: int, images: str = "mnist", first: int = 0, l2: float = 1.0) -> Outcomes:
    """So many correct samples out of 1,000, from a position on."""
    robust = np.zeros(N)
    robust[first : first + correct] = 1
    errors = np.stack([np.zeros(N, dtype=np.int64), np.where(robust > 0, 0, 1 + np.arange(N) % 3)], axis=1)
    return Outcomes(images, robust, np.ones(N), np.full(N, l2) + np.linspace(-0.1, 0.1, N), errors)


def accuracy(correct: int, images: str = "mnist", first: int = 0) -> Reading:
    return Reading(correct / N, "", outcomes(correct, images, first).resampled("robust_accuracy").tolist(), N)


def leads(high: Reading, low: Reading, by: float = 0.0, **given: Any) -> str:
    return check("MNIST", "one over another", [high, low], lambda a, b: (a - b - by, f"{a} {b}"), **given).verdict


@pytest.mark.parametrize(
    ("high", "low", "verdict"),
    [
        (500, 500, "undecided"),
        (505, 500, "undecided"),
        (506, 500, "holds"),
        (495, 500, "undecided"),
        (494, 500, "fails"),
        (6, 0, "holds"),
        (1, 0, "undecided"),
        (0, 0, "undecided"),
    ],
)
def test_a_tie_and_a_few_images_decide_nothing(high: int, low: int, verdict: str) -> None:
    assert leads(accuracy(high), accuracy(low), strictly=True) == verdict


def test_differences_on_the_same_images_are_paired() -> None:
    # 20 of 1,000 images more, where the same images are correct otherwise; and where other images are.
    assert leads(accuracy(520), accuracy(500)) == "holds"
    assert leads(accuracy(520), accuracy(500, first=480)) == "undecided"
    assert leads(accuracy(520), accuracy(500, images="cifar10")) == "undecided"


@pytest.mark.parametrize(
    ("correct", "verdict"), [(650, "fails"), (690, "undecided"), (710, "undecided"), (760, "holds")]
)
def test_an_accuracy_near_its_bound_is_undecided(correct: int, verdict: str) -> None:
    one = check("MNIST", "TVM", [accuracy(correct)], lambda value: (value - 0.7, f"{value}"))
    assert one.verdict == verdict


@pytest.mark.parametrize(("correct", "verdict"), [(0, "holds"), (1, "undecided"), (12, "fails")])
def test_that_no_image_is_left_is_about_these_images(correct: int, verdict: str) -> None:
    one = check("MNIST", "FGSM", [accuracy(correct)], lambda value: (0.0005 - value, f"{value}"), few=0)
    assert one.verdict == verdict


@pytest.mark.parametrize("n", [1, 2, 3, 5, 19])
def test_a_few_images_decide_no_claim(n: int) -> None:
    world = World()
    for cell in world.cells.values():
        cell["n"] = n
    reproduction = world.reproduction()
    not_adaptive = {claim.number for claim in CLAIMS if claim.not_adaptive}
    for protocol in PROTOCOLS:
        for claim in reproduction["claims"]:
            number, judged = claim["number"], claim[protocol.key]
            if number == 18 or (protocol.key == "adaptive" and number in not_adaptive):
                assert judged["verdict"] == "not run"
                continue
            assert judged["verdict"] == "undecided", (number, protocol.key)
            assert judged["reason"].startswith(f"Too few to decide: {n} image"), (number, protocol.key)
    few = "images" if n > 1 else "image"
    assert tally(reproduction)[-1] == f"Too few to decide: {n} {few} of MNIST; {n} {few} of CIFAR-10."


def test_twenty_images_may_decide() -> None:
    world = World()
    for cell in world.cells.values():
        cell["n"] = 20
    verdicts = world.verdicts()
    assert (verdicts[1], verdicts[15]) == ("holds", "holds")


def test_a_median_needs_enough_images_that_fool_the_model() -> None:
    world = World()
    world.outcomes_of_all = True
    assert world.verdicts()[15] == "holds"
    world.fooled = 19
    claim = next(claim for claim in world.reproduction()["claims"] if claim["number"] == 15)
    assert claim["minimal"]["verdict"] == "undecided"
    assert "Too few to decide: 19 images of MNIST that fool the model" in claim["minimal"]["reason"]


def test_few_errors_decide_nothing() -> None:
    world = World()
    world.confusions = {key: [[9, 1], [1, 9]] for key in world.confusions}
    claim = next(claim for claim in world.reproduction()["claims"] if claim["number"] == 17)
    assert claim["minimal"]["verdict"] == "undecided"
    assert "8 errors of JPEG on MNIST" in claim["minimal"]["reason"]


def test_numbers_without_outcomes_are_exact() -> None:
    assert leads(Reading(0.51), Reading(0.5)) == "holds"


def one(verdict: str) -> Check:
    return {
        "holds": Check("MNIST", "x", "1", True, 0.1),
        "fails": Check("MNIST", "x", "1", False, -0.1),
        "barely": Check("MNIST", "x", "1", True, 0.001, decided=False),
        "hardly": Check("MNIST", "x", "1", False, -0.001, decided=False),
        "missing": Check("MNIST", "x", "", None, missing=("y",)),
    }[verdict]


@pytest.mark.parametrize(
    ("verdicts", "of_three", "of_all"),
    [
        ("holds holds holds fails", "holds", "fails"),
        ("holds holds barely fails", "undecided", "fails"),
        ("holds holds hardly fails", "undecided", "fails"),
        ("holds holds hardly holds", "holds", "undecided"),
        ("holds fails hardly fails", "fails", "fails"),
        ("holds holds barely barely", "undecided", "undecided"),
        ("holds holds barely missing", "undecided", "not run"),
        ("holds holds hardly missing", "not run", "not run"),
        ("holds holds holds missing", "holds", "not run"),
        ("fails fails barely missing", "fails", "fails"),
    ],
)
def test_a_count_and_a_claim_are_undecided_if_what_is_undecided_can_change_them(
    verdicts: str, of_three: str, of_all: str
) -> None:
    checks = [one(verdict) for verdict in verdicts.split()]
    assert at_least(3, "MNIST", "attacks:", checks).verdict == of_three
    assert decide(checks) == of_all


def test_resamples_are_drawn_from_the_images() -> None:
    some = outcomes(300)
    robust = some.resampled("robust_accuracy")
    assert robust.shape == (RESAMPLES,)
    assert robust.mean() == pytest.approx(0.3, abs=0.002)
    assert robust.std() == pytest.approx((0.3 * 0.7 / N) ** 0.5, rel=0.1)
    assert some.resampled("clean_accuracy").tolist() == [1.0] * RESAMPLES
    assert some.resampled("median_l2").mean() == pytest.approx(1.0, abs=0.01)
    assert np.ptp(some.resampled("median_l2")) > 0
    spread = resampled_spread([some, outcomes(500)])
    # The errors are even over 3 of the 12 pairs of four classes.
    assert np.mean(spread) == pytest.approx(np.log(3) / np.log(12), abs=0.01)


def test_a_sentence_says_why_verdicts_differ_between_protocols() -> None:
    world = World()
    world.set("mnist", ("deepfool",), "jpeg", protocol="minimal", robust_accuracy=0.97)
    claim = next(claim for claim in world.reproduction()["claims"] if claim["number"] == 6)
    assert claim["difference"] == (
        "It holds with Foolbox 2.3 attacks and fails with minimal attacks: MNIST, JPEG +6.0 points and +97.0 points."
    )
    assert claim["foolbox2"]["verdict"] == "holds"
    same = next(claim for claim in world.reproduction()["claims"] if claim["number"] == 16)
    assert same["difference"] == ""


def test_the_sentence_compares_adaptive_attacks_on_fewer_images_too() -> None:
    world = World()
    world.set("mnist", ("pgd",), "jpeg", protocol="adaptive", robust_accuracy=0.0)
    for (suite, dataset, *_), cell in world.cells.items():
        cell["n"] = 100 if suite == "paper-adaptive" and dataset == "mnist" else cell["n"]
    claim = next(claim for claim in world.reproduction()["claims"] if claim["number"] == 3)
    assert claim["difference"] == (
        "It holds with Foolbox 2.3 attacks and fails with adaptive attacks: MNIST (100 images, not 200), JPEG against "
        "PGD, APGD 99.5 % and 0.0 %."
    )
