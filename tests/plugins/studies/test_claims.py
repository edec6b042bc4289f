"""Every claim of the paper holds, fails and is not run when the numbers say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.plugins.studies.paper_world import ATTACKS, CONCENTRATED, GRID, SALT_AND_PEPPER, SUITES, UNIFORM, World

from advbench.analysis.confusion import confusion_matrix, error_spread, sum_matrices
from advbench_studies.paper2019.claims import CLAIMS
from advbench_studies.paper2019.setting import PROTOCOLS

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[3] / "docs" / "studies"
THREE = ("fgsm", "pgd", "cw")
FIVE = ("jpeg", "gaussian", "kmeans", "tvm", "vqvae-0")

Change = Callable[[World], Any]


def robust(dataset: str, attacks: tuple[str, ...], defense: str, value: float, full: bool = False) -> Change:
    return lambda world: world.set(dataset, attacks, defense, full=full, robust_accuracy=value)


def several(*changes: Change) -> Change:
    return lambda world: [change(world) for change in changes]


def drop(dataset: str, attacks: tuple[str, ...], defense: str, full: bool = False) -> Change:
    return lambda world: world.drop(dataset, attacks, defense, full=full)


def retrained(dataset: str, **values: Any) -> Change:
    """Changes the cell of the retrained classifier."""

    def change(world: World) -> None:
        for key in [key for key in world.cells if key[0] == f"paper-retrained-{dataset}"]:
            world.cells[key] |= values

    return change


def concentrate(world: World) -> None:
    world.confusions = dict.fromkeys(world.confusions, CONCENTRATED)


def forget(world: World) -> None:
    world.confusions = {}


REFUTES: dict[int, Change] = {
    1: robust("mnist", ("fgsm",), "none", 0.02),
    2: robust("cifar10", ("cw",), "gaussian", 0.0),
    3: robust("mnist", ("pgd",), "jpeg", 0.90),
    4: robust("cifar10", ("fgsm",), "jpeg", 0.73),
    5: robust("mnist", ("cw",), "tvm", 0.69),
    6: robust("mnist", ("deepfool",), "jpeg", 0.11),
    7: several(*(robust("mnist", ("pgd",), defense, 0.1) for defense in FIVE)),
    8: robust("mnist", ("fgsm",), "kmeans", 0.50),
    9: robust("mnist", ("fgsm",), "gaussian", 0.75),
    10: robust("cifar10", THREE, "vqvae-0.75", 0.5),
    11: robust("mnist", THREE, "vqvae:noise=1.5,weights=shipped", 0.5),
    12: robust("mnist", ("cw",), "jpeg:quality=25", 0.9),
    13: robust("mnist", ("fgsm", "cw"), "kmeans:clusters=100,iterations=100", 0.6),
    14: robust("cifar10", ("fgsm", "cw"), "gaussian", 0.5),
    15: lambda world: world.set("cifar10", ("pgd",), "none", median_l2=3.5),
    16: lambda world: [world.set("cifar10", (attack,), "none", clean_accuracy=0.8) for attack in ATTACKS],
    17: concentrate,
    18: robust("mnist", ("fgsm",), "jpeg", 0.9, full=True),
    19: robust("mnist", THREE, GRID[1], 0.5),
    20: retrained("mnist", clean_accuracy=0.9),
    21: lambda world: setattr(world, "moved", (0.25, 0.5)),
    22: several(*(robust("mnist", ATTACKS, noise, 0.03) for noise in (UNIFORM, SALT_AND_PEPPER))),
}
LACKS: dict[int, Change] = {
    1: drop("mnist", ("fgsm",), "none"),
    2: drop("cifar10", ("cw",), "gaussian"),
    3: drop("mnist", ("pgd",), "jpeg"),
    4: drop("cifar10", ("fgsm",), "jpeg"),
    5: drop("mnist", ("cw",), "tvm"),
    6: drop("mnist", ("deepfool",), "jpeg"),
    7: several(*(drop("mnist", ("pgd",), defense) for defense in FIVE)),
    8: drop("mnist", ("fgsm",), "kmeans"),
    9: drop("mnist", ("fgsm",), "gaussian"),
    10: drop("cifar10", ("fgsm", "pgd", "cw"), "vqvae-0.75"),
    11: drop("mnist", ATTACKS, "vqvae:noise=1.5,weights=shipped"),
    12: drop("mnist", ("cw",), "jpeg:quality=25"),
    13: drop("mnist", ("fgsm", "cw"), "kmeans:clusters=100,iterations=100"),
    14: drop("cifar10", ("fgsm", "cw"), "gaussian"),
    15: drop("cifar10", ("pgd",), "none"),
    16: drop("cifar10", ATTACKS, "none"),
    17: forget,
    18: several(*(drop("mnist", ("fgsm", "deepfool"), defense, full=True) for defense in ("none", "jpeg"))),
    19: drop("mnist", THREE, GRID[1]),
    20: retrained("mnist", status="error", clean_accuracy=None),
    21: several(*(drop("mnist", (attack,), "jpeg") for attack in ("fgsm", "pgd"))),
    22: several(*(drop("mnist", THREE, noise) for noise in (UNIFORM, SALT_AND_PEPPER))),
}
NUMBERS = [claim.number for claim in CLAIMS]


def test_all_claims_are_judged() -> None:
    assert list(range(1, 23)) == NUMBERS
    assert set(REFUTES) == set(LACKS) == set(NUMBERS)
    assert all(claim.text and claim.criterion for claim in CLAIMS)


@pytest.mark.parametrize("protocol", SUITES)
def test_in_the_papers_world_every_claim_holds(protocol: str) -> None:
    expected = dict.fromkeys(NUMBERS, "holds")
    if protocol == "adaptive":
        expected |= {claim.number: "not run" for claim in CLAIMS if claim.not_adaptive}
    assert World().verdicts(protocol) == expected


def test_a_claim_without_adaptive_measurements_says_why_in_a_sentence() -> None:
    judged = {claim["number"]: claim["adaptive"] for claim in World().reproduction()["claims"]}
    without = {number for number, verdict in judged.items() if verdict["verdict"] == "not run"}
    assert without == {11, 12, 13, 18, 19, 21, 22}
    assert all(judged[number]["reason"].endswith(".") and not judged[number]["lacks"] for number in without)
    assert not any(verdict["reason"] for number, verdict in judged.items() if number not in without)


def test_adaptive_attacks_are_judged_apart() -> None:
    world = World()
    world.set("mnist", ("pgd",), "jpeg", protocol="adaptive", robust_accuracy=0.0)
    assert (world.verdicts("adaptive")[3], world.verdicts("fixed")[3]) == ("fails", "holds")
    world = World()
    world.set("mnist", ("pgd",), "jpeg", protocol="fixed", robust_accuracy=0.0)
    assert (world.verdicts("adaptive")[3], world.verdicts("fixed")[3]) == ("holds", "fails")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_claim_fails_when_its_numbers_refute_it(number: int) -> None:
    world = World()
    REFUTES[number](world)
    assert world.verdicts()[number] == "fails"


@pytest.mark.parametrize("number", NUMBERS)
def test_a_claim_that_lacks_a_measurement_is_not_run_and_says_what_is_missing(number: int) -> None:
    world = World()
    LACKS[number](world)
    judged = next(claim for claim in world.reproduction()["claims"] if claim["number"] == number)["minimal"]
    assert judged["verdict"] == "not run"
    assert judged["lacks"]
    assert judged["missing"]


def test_the_protocols_are_judged_apart() -> None:
    world = World()
    world.set("mnist", ("fgsm", "pgd"), "jpeg", protocol="fixed", robust_accuracy=0.08)
    world.set("mnist", ("fgsm",), "none", protocol="fixed", robust_accuracy=0.09)
    assert set(world.verdicts("minimal").values()) == {"holds"}
    assert set(world.verdicts("foolbox2").values()) == {"holds"}
    fixed = world.verdicts("fixed")
    assert (fixed[1], fixed[2], fixed[3]) == ("fails", "fails", "fails")


def test_cw_and_deepfool_are_the_same_cells_under_both_protocols() -> None:
    world = World()
    world.set("mnist", ("deepfool",), "jpeg", robust_accuracy=0.97)
    assert world.verdicts("minimal")[6] == world.verdicts("fixed")[6] == "fails"


def test_deepfool_of_foolbox_2_3_is_another_cell() -> None:
    world = World()
    world.set("mnist", ("deepfool",), "jpeg", protocol="foolbox2", robust_accuracy=0.97)
    assert world.verdicts("foolbox2")[6] == world.verdicts("foolbox2-0.3")[6] == "fails"
    assert world.verdicts("minimal")[6] == "holds"


def test_fgsm_of_foolbox_2_3_has_two_largest_steps() -> None:
    world = World()
    world.set("mnist", ("fgsm",), "none", protocol="foolbox2-0.3", robust_accuracy=0.09)
    assert (world.verdicts("foolbox2")[1], world.verdicts("foolbox2-0.3")[1]) == ("holds", "fails")


def test_with_one_dataset_alone_nothing_about_both_holds_but_it_can_be_refuted() -> None:
    world = World()
    world.drop_dataset("cifar10")
    verdicts = world.verdicts()
    about_mnist = {3, 8, 18, 19, 21, 22}
    assert {number for number, verdict in verdicts.items() if verdict == "holds"} == about_mnist
    assert {number for number, verdict in verdicts.items() if verdict == "not run"} == set(NUMBERS) - about_mnist
    lacks = {claim["number"]: claim["minimal"]["lacks"] for claim in world.reproduction()["claims"]}
    assert lacks[1] == "CIFAR-10"
    assert lacks[4] == "CIFAR-10"
    robust("mnist", ("fgsm",), "none", 0.5)(world)
    assert world.verdicts()[1] == "fails"


def test_a_failed_cell_is_no_measurement() -> None:
    world = World()
    world.set("mnist", ("fgsm",), "jpeg", status="error", error="ContractError: broke", robust_accuracy=None)
    reproduction = world.reproduction()
    judged = reproduction["claims"][2]["minimal"]
    assert judged["verdict"] == "not run"
    assert "jpeg:quality=90 against FGSM on MNIST failed" in judged["lacks"]


def test_whatever_is_less_than_the_papers_is_said_next_to_the_numbers() -> None:
    world = World()
    for (suite, dataset, *_), cell in world.cells.items():
        if dataset == "mnist" and suite != "paper-full":
            cell["n"] = 50
        cell["attack"] = cell["attack"].replace("steps=1000", "steps=100")
    reproduction = world.reproduction()
    minimal = next(protocol for protocol in reproduction["protocols"] if protocol["key"] == "minimal")
    assert minimal["reduced"][0] == "MNIST (50 images, not 1,000)"
    titles = {(row["attack_title"], row["dataset_title"]) for row in minimal["rows"]}
    assert ("CW (steps=100, not 1000)", "MNIST (50 images, not 1,000)") in titles
    assert ("FGSM", "CIFAR-10") in titles
    assert "50 images, not 1,000" in reproduction["claims"][2]["minimal"]["measured"][0]
    assert "steps=100, not 1000" in reproduction["claims"][2]["minimal"]["measured"][0]


def test_the_spread_of_errors_is_told_from_how_they_fall_and_not_from_how_many_there_are() -> None:
    even, single = [[0, 5, 5], [5, 0, 5], [5, 5, 0]], [[0, 30, 0], [0, 0, 0], [0, 0, 0]]
    assert error_spread(even) == (pytest.approx(1.0), 30)
    assert error_spread(single) == (0.0, 30)
    assert error_spread([[0, 1, 1], [0, 0, 0], [0, 0, 0]])[0] == pytest.approx(1.0)
    assert error_spread([[7, 0], [0, 7]]) == (0.0, 0)


def test_confusions_are_counted_and_summed() -> None:
    matrix = confusion_matrix({"labels": [0, 0, 1, 2], "adversarial_predictions": [0, 1, 1, 0]})
    assert matrix == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert sum_matrices([matrix, [[5]]]) == [[6, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_page_and_picture_name_the_protocols_as_the_code_does() -> None:
    page = (DOCS / "paper2019.md").read_text("utf-8")
    picture = (DOCS / "paper2019" / "accuracies.svg").read_text("utf-8").casefold()
    for protocol in PROTOCOLS:
        assert f"<summary>Accuracy, {protocol.title}, in %</summary>" in page
        assert f"- {protocol.title[:1].upper()}{protocol.title[1:]}, verdicts on " in page
        for half in protocol.title.split(", "):
            first, _, last = half.casefold().rpartition(" ")
            lines = (f"{first} {last}", f"{first} {last},", first)
            assert any(f"<!-- {line} -->" in picture for line in lines), half
            assert last in picture
