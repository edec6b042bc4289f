"""A defense may offer several approximations: an adaptive attack tries them all, and each sample keeps its best."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TOY, Called

from advbench.api import ContractError, SampleRandom
from advbench.contracts.defenses import check_approximations
from advbench.discovery.loading import discover
from advbench.evaluation.plan.tasks import CraftTask
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier, count_approximations
from advbench.evaluation.work.craft import craft
from advbench.evaluation.work.workspace import Environment, Workspace
from advbench.process.watching.attributes import watch_attributes
from advbench.session.opening import CORE
from advbench.specs import resolve_chain, resolve_one
from advbench.store import digest_of

pytestmark = pytest.mark.slow

PLUGIN = Path(__file__).with_name("approximations_plugin.py")
REGISTRY = discover(CORE, (TOY, PLUGIN), without=("*",))

Toy = Callable[..., tuple[Called, dict[str, Any]]]
Crafted = tuple[dict[str, torch.Tensor], dict[str, Any]]
Craft = Callable[..., Crafted]


@pytest.fixture
def crafted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Craft:
    """Attacks the toy model behind a defense; returns what is stored."""
    monkeypatch.setenv("TWO_LOG", str(tmp_path / "log"))
    watch_attributes()  # as a command does at its start: those of an earlier test may have been patched

    def run(attack: str, defense: str, *, batch_size: int = 250, draws: int = 1, precision: str = "float32") -> Crafted:
        (tmp_path / "log").write_text("")
        environment = Environment(
            store=tmp_path, cache_dir=tmp_path, data_dir=None, device="cpu", batch_size=batch_size, core=CORE
        )
        workspace = Workspace(environment, REGISTRY)
        ids, name = tuple(range(100, 140)), {"ids": "all", "of": [attack, defense, batch_size, draws, precision]}
        group = workspace.attack(attack).group_size
        craft(
            workspace,
            CraftTask(name, ids, "toy", "toy-linear", attack, "adaptive", defense, 0, draws, precision, None, group),
            lambda _: None,
        )
        stored = workspace.store.read_tensors(digest_of(name))
        assert stored is not None
        return stored

    return run


@pytest.fixture
def runs(tmp_path: Path) -> Callable[[], list[int]]:
    """How many samples each run of the attack had."""
    return lambda: [
        int(line.removeprefix("run ")) for line in (tmp_path / "log").read_text().splitlines() if line[:3] == "run"
    ]


def broken(crafted: Crafted) -> torch.Tensor:
    """Whether the attacked classifier misclassifies each image."""
    return crafted[0]["predictions"] != crafted[0]["labels"]


@pytest.mark.parametrize("defense", ["two", "two:use=swapped"])
def test_a_sample_counts_as_broken_if_one_of_the_approximations_breaks_it(crafted: Craft, defense: str) -> None:
    attack = "walk:eps=0.1"
    left, right = (broken(crafted(attack, f"two:use={half}")) for half in ("left", "right"))
    assert (left & ~right).any()
    assert (right & ~left).any()
    assert torch.equal(broken(crafted(attack, defense)), left | right)


def test_behind_noise_each_sample_keeps_what_is_misclassified_most_often(crafted: Craft) -> None:
    def rates(defense: str) -> torch.Tensor:
        tensors, _ = crafted("walk:eps=0.1", f"{defense},sigma=0.05", draws=3)
        ids, chain = range(100, 140), resolve_chain(REGISTRY, "two:sigma=0.05")[0]
        network = resolve_one(REGISTRY, "models", "toy-linear").load()
        wrong = [
            network(chain.apply(tensors["images"], SampleRandom(5, f"score {draw}", ids))).argmax(dim=1)
            != tensors["labels"]
            for draw in range(100)
        ]
        return torch.stack(wrong).double().mean(dim=0)

    left, right, both = (rates(f"two:use={use}") for use in ("left", "right", "both"))
    assert ((left - right).abs() > 0.2).any()
    assert (both >= torch.maximum(left, right) - 0.2).all()
    assert both.mean() > max(left.mean(), right.mean())


def test_the_best_is_chosen_on_draws_of_its_own(crafted: Craft, tmp_path: Path) -> None:
    crafted("walk:eps=0.1", "two:sigma=0.1")
    purposes = {line.split("/")[0] for line in (tmp_path / "log").read_text().splitlines() if line[:5] == "apply"}
    assert purposes == {"apply attacked defense", "apply choice of approximation", "apply slopes at the bounds"}


def test_a_minimal_attack_keeps_the_nearest_of_the_images_that_fool(crafted: Craft) -> None:
    left, right, both = (crafted("walk", f"two:use={use}") for use in ("left", "right", "both"))
    assert (broken(left) != broken(right)).any()
    assert torch.equal(broken(both), broken(left) | broken(right))
    distances = [torch.where(broken(one), one[0]["linf"], float("inf")) for one in (left, right)]
    nearest = torch.minimum(*distances)
    assert (distances[0] != distances[1]).any()
    assert torch.equal(torch.where(broken(both), both[0]["linf"], float("inf")), nearest)


def test_samples_that_are_broken_skip_further_runs(crafted: Craft, runs: Callable[[], list[int]]) -> None:
    unbroken = int((~broken(crafted("walk:eps=0.1", "two:use=left"))).sum())
    assert runs() == [40]
    _, facts = crafted("walk:eps=0.1", "two")
    assert 0 < unbroken < 40
    assert runs() == [40, unbroken]
    assert facts["images_asked"] == (40 + unbroken) * (15 + 1), "15 steps, and the choice"


def test_a_group_is_attacked_as_a_whole_in_every_run(crafted: Craft, runs: Callable[[], list[int]]) -> None:
    expected = broken(crafted("walk:eps=0.1", "two"))
    groups = crafted("walk:eps=0.1,group=16", "two", batch_size=3)
    assert runs() == [16, 16, 16, 16, 8, 8]
    assert torch.equal(broken(groups), expected)


@pytest.mark.parametrize("noise", ["", ",sigma=0.1"])
@pytest.mark.parametrize("attack", ["walk:eps=0.1", "blind"])
def test_gradients_vanish_if_those_of_all_approximations_do(crafted: Craft, attack: str, noise: str) -> None:
    assert crafted(attack, f"two:use=dead{noise}")[0]["vanished"].all()
    assert not crafted(attack, f"two:use=dead-right{noise}")[0]["vanished"].any()


def test_an_attack_without_gradients_runs_once(crafted: Craft, runs: Callable[[], list[int]]) -> None:
    crafted("blind", "two")
    assert runs() == [40]


@pytest.mark.parametrize("attack", ["walk:eps=0.1", "walk"])
@pytest.mark.parametrize("defense", ["two", "two:sigma=0.1"])
def test_results_do_not_depend_on_the_batch_size(crafted: Craft, attack: str, defense: str) -> None:
    whole, parts = (crafted(attack, defense, batch_size=size, draws=2)[0] for size in (250, 7))
    torch.testing.assert_close(whole["images"], parts["images"], atol=1e-6, rtol=0)


def test_an_attack_in_low_precision_is_judged_in_float32(crafted: Craft) -> None:
    tensors, _ = crafted("walk:eps=0.1", "two", precision="bfloat16")
    assert torch.equal(broken((tensors, {})), broken(crafted("walk:eps=0.1", "two")))


def test_a_part_of_a_chain_with_fewer_approximations_uses_its_last_one() -> None:
    images = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    chain, alone = (resolve_chain(REGISTRY, spec)[0] for spec in ("two+two:use=swapped+toy-flip", "toy-flip"))
    assert (count_approximations(chain), count_approximations(alone)) == (2, 1)

    def alive(defense: str, number: int) -> list[bool]:
        chain = resolve_chain(REGISTRY, defense)[0]
        target = DefendedClassifier(torch.nn.Flatten(), chain, SampleRandom(0, "test", range(4)), 1, number=number)
        points = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(target(points).sum(), points)
        return (gradient != 0).any(dim=0).any(dim=0).any(dim=0).tolist()

    left, right = [True, True, False, False], [False, False, True, True]
    assert [alive("two+toy-flip", number) for number in range(2)] == [left, right]
    assert [alive("two:use=right+two", number) for number in range(2)] == [[False] * 4, right]


def test_no_approximation_is_an_error_that_names_the_defense(toy: Toy) -> None:
    with pytest.raises(ContractError, match=r"defense 'two' returned \(\) from approximations\(\)"):
        check_approximations(resolve_chain(REGISTRY, "two:use=none")[0].parts[0])
    _, results = toy("--plugin", PLUGIN, "--threats", "adaptive", defenses=["two:use=none"])
    (cell,) = results["cells"]
    assert "return a tuple of at least one function of (images, output, rng)" in cell["error"]


@pytest.mark.parametrize("use", ["changing", "fewer"])
@pytest.mark.parametrize("attack", ["walk:eps=0.1", "walk"])
def test_a_changing_number_of_approximations_is_an_error_that_names_the_defense(
    toy: Toy, use: str, attack: str
) -> None:
    defense = f"two:use={use}"
    called, results = toy("--plugin", PLUGIN, "--threats", "adaptive", attacks=[attack], defenses=[defense])
    (cell,) = results["cells"]
    assert called.code == 1
    assert re.search(
        r"ContractError: defense 'two' returned \d functions from approximations\(\), and \d at an earlier call; "
        "return as many at every call",
        cell["error"],
    )


def test_the_forecast_counts_every_run(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "advbench.evaluation.work.timing.components._Timer._seconds",
        lambda _, timing: {"pass": 1.0}.get(timing[0], 0.0),
    )
    monkeypatch.setattr("advbench.evaluation.run.estimate._PILOT_SECONDS", 0.0)
    monkeypatch.setattr("advbench.session.run.run_schedule", lambda *_, **__: None)
    for defense, minutes in (("two:use=left", 10), ("two", 20)):
        called, _ = toy("--plugin", PLUGIN, "--threats", "adaptive", attacks=["walk:eps=0.1"], defenses=[defense])
        assert f"this will take about {minutes} min" in called.err, "40 samples, 15 passes"


@pytest.mark.slow
@pytest.mark.usefixtures("quick_workers")
def test_a_matrix_does_not_depend_on_the_number_of_jobs(toy: Toy) -> None:
    flags = ("--plugin", PLUGIN, "--threats", "adaptive", "oblivious", "--eot", 3)
    boards = []
    for jobs in (1, 2):
        called, results = toy(
            *flags, "--jobs", jobs, "--batch-size", 20 * jobs, store=f"store{jobs}",
            attacks=["walk:eps=0.1", "walk"], defenses=["two", "two:sigma=0.1"],
        )  # fmt: skip
        assert called.code == 0
        boards.append([(cell["robust_accuracy"], cell["median_linf"]) for cell in results["cells"]])
    assert boards[0] == boards[1]
