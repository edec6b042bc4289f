"""--max-queries: what counts within it is the result, and nothing beyond it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TOY, Called

from advbench.discovery.loading import discover
from advbench.evaluation.plan.tasks import CraftTask
from advbench.evaluation.work.attacked.query_limit import NotLimitable
from advbench.evaluation.work.craft import craft
from advbench.evaluation.work.workspace import Environment, Workspace
from advbench.process.watching.attributes import watch_attributes
from advbench.session.opening import CORE
from advbench.store import digest_of

pytestmark = pytest.mark.slow

PLUGIN = Path(__file__).with_name("queries_plugin.py")
REGISTRY = discover(CORE, (TOY, PLUGIN))
IDS = tuple(range(100, 140))

Tensors = dict[str, torch.Tensor]
Toy = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.fixture
def crafted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensors]:
    """Attacks the toy model; returns what is stored."""
    monkeypatch.setenv("QUERIES_LOG", str(tmp_path / "log"))
    watch_attributes()

    def run(
        attack: str, most: int | None = None, *, batch_size: int = 250, defense: str = "", draws: int = 1
    ) -> Tensors:
        (tmp_path / "log").write_text("")
        environment = Environment(
            store=tmp_path, cache_dir=tmp_path, data_dir=None, device="cpu", batch_size=batch_size, core=CORE
        )
        workspace, name = Workspace(environment, REGISTRY), {"ids": "all", "of": [attack, most, batch_size, defense]}
        threat = "adaptive" if defense else "oblivious"
        task = CraftTask(name, IDS, "toy", "toy-linear", attack, threat, defense, 0, draws, max_queries=most)
        craft(workspace, task, lambda _: None)
        stored = workspace.store.read_tensors(digest_of(name))
        assert stored is not None
        return stored[0]

    return run


@pytest.fixture
def queries(tmp_path: Path) -> Callable[[], int]:
    """How many queries the attack made in its last run."""
    return lambda: len((tmp_path / "log").read_text().splitlines())


def broken(tensors: Tensors) -> torch.Tensor:
    return tensors["predictions"] != tensors["labels"]


@pytest.mark.parametrize("eps", ["0.3", "none"])
@pytest.mark.parametrize("most", [1, 7, 30])
def test_the_nearest_success_within_the_limit_counts_and_else_the_last_point(
    eps: str, most: int, crafted: Callable[..., Tensors], queries: Callable[[], int]
) -> None:
    expected = crafted(f"lines:eps={eps},queries={most}")
    capped = crafted(f"lines:eps={eps},queries=100", most)
    assert queries() == most + 1, "the attack ends at the first query beyond the limit"
    fooled = broken(expected)
    assert 4 < fooled.sum() <= len(IDS)
    assert torch.equal(capped["images"][fooled], expected["images"][fooled])
    assert torch.equal(capped["linf"][fooled], expected["linf"][fooled])
    assert torch.equal(broken(capped), fooled)
    if eps == "none":
        assert not capped["linf"][~fooled].any(), "a minimal attack that fails returns the clean image"
    else:
        assert torch.equal(capped["images"], expected["images"]), "the last point of those that are not fooled, too"
    assert (capped["forwards"] == most).all()


def test_a_sample_that_is_attacked_alone_ends_alone(
    crafted: Callable[..., Tensors], queries: Callable[[], int]
) -> None:
    together, alone = crafted("lines:eps=none,queries=100", 7), crafted("one-by-one:eps=none,queries=100", 7)
    assert queries() == 8 * len(IDS), "each at its first query beyond the limit"
    assert together.keys() == alone.keys()
    assert all(torch.equal(together[name], alone[name]) for name in together)


def test_a_limit_that_is_not_reached_changes_nothing(crafted: Callable[..., Tensors]) -> None:
    free, capped = crafted("climb"), crafted("climb", 30)
    assert free.keys() == capped.keys()
    assert all(torch.equal(free[name], capped[name]) for name in free)
    assert (crafted("climb", 29)["images"] != free["images"]).any()


@pytest.mark.parametrize("ahead", [1, 4, 5])
def test_points_of_one_call_count_one_by_one(ahead: int, crafted: Callable[..., Tensors]) -> None:
    expected = crafted("lines:queries=20")
    capped = crafted(f"lines:queries=100,ahead={ahead}", 20)
    assert torch.equal(broken(capped), broken(expected))
    assert torch.equal(capped["linf"][broken(expected)], expected["linf"][broken(expected)])
    odd = crafted(f"lines:queries=100,ahead={ahead}", 18)
    assert (odd["forwards"] == 18).all()
    assert torch.equal(broken(odd), broken(crafted("lines:queries=18")))


def test_gradients_are_limited_as_well(crafted: Callable[..., Tensors]) -> None:
    capped = crafted("pgd:steps=40", 12)
    assert (capped["forwards"] == 12).all()
    assert (capped["backwards"] == 12).all()
    assert (capped["linf"] <= 0.3 + 1e-6).all()
    deepfool = crafted("deepfool:candidates=3", 4)
    assert int(deepfool["backwards"].max()) <= 4
    assert int(deepfool["forwards"].max()) <= 4


def test_draws_of_a_defense_count_towards_the_limit(crafted: Callable[..., Tensors]) -> None:
    capped = crafted("lines", 20, defense="toy-noise:sigma=0.1", draws=3)
    assert (capped["forwards"] == 18).all()
    none = crafted("lines", 2, defense="toy-noise:sigma=0.1", draws=3)
    assert not none["forwards"].any()
    assert not none["linf"].any(), "no query was answered"


NATIVE = [
    "pgd:steps=20",
    "pgd:steps=20,early_stop=true",
    "square:queries=200",
    "apgd:steps=20",
    "apgd-t:steps=10,targets=2",
    "rays:queries=500",
    "rays:queries=500,eps=0.2",
    "deepfool",
    "deepfool:norm=linf",
    "ddn:steps=30",
    "fmn:steps=30",
    "cw:steps=50",
    "autoattack:steps=10,targets=2,queries=100",
    "noise:queries=50",
    "lines",
    "lines:eps=none",
]


@pytest.mark.parametrize("most", [4, 15])
@pytest.mark.parametrize("attack", NATIVE)
def test_results_do_not_depend_on_the_batch_size(attack: str, most: int, crafted: Callable[..., Tensors]) -> None:
    whole, one, seven = (crafted(attack, most, batch_size=size) for size in (250, 1, 7))
    for parts in (one, seven):
        torch.testing.assert_close(whole["images"], parts["images"], atol=1e-5, rtol=0)
        assert torch.equal(broken(whole), broken(parts))


def test_rays_with_a_limit_is_rays_with_so_many_queries(crafted: Callable[..., Tensors]) -> None:
    capped, own = crafted("rays:queries=10000", 60), crafted("rays:queries=60")
    torch.testing.assert_close(capped["images"], own["images"], atol=1e-6, rtol=0)
    assert int(capped["forwards"].max()) == 60


def test_an_attack_that_hides_its_rows_cannot_be_limited(crafted: Callable[..., Tensors]) -> None:
    assert (crafted("hidden")["forwards"] == -1).all()
    with pytest.raises(NotLimitable, match="does not say to which samples"):
        crafted("hidden", 10)


def test_in_a_run_no_cell_fails_and_hidden_rows_are_skipped_with_the_reason(toy: Toy) -> None:
    flags = ("--plugin", PLUGIN, "--max-queries", 10, "--threats", "oblivious", "adaptive")
    called, results = toy(*flags, attacks=["lines", "climb", "hidden"], defenses=["toy-keep", "toy-noise"])
    assert called.code == 0
    assert "ERR" not in called.out + called.err
    by_attack = {cell["short"]["attack"]: [] for cell in results["cells"]}
    for cell in results["cells"]:
        by_attack[cell["short"]["attack"]].append((cell["status"], cell["error"]))
    assert set(by_attack["lines"]) == set(by_attack["climb"]) == {("ok", None)}
    reason = "attack 'hidden' cannot have a limit of queries: it does not say to which samples the images of a query "
    assert {status for status, _ in by_attack["hidden"]} == {"skipped"}
    assert all(error.startswith(reason) for _, error in by_attack["hidden"])
    assert results["run"]["max_queries"] == 10
    again, _ = toy(*flags, attacks=["lines", "climb", "hidden"], defenses=["toy-keep", "toy-noise"])
    assert "12 in the store, 0 to do" in again.err


@pytest.mark.parametrize(("most", "recorded"), [(5, [5]), (100, [100]), (150, [100, 150])])
def test_best_sizes_end_at_the_limit(most: int, recorded: list[int], toy: Toy) -> None:
    flags = ("--plugin", PLUGIN, "--max-queries", most)
    _, results = toy(*flags, attacks=["lines:eps=none,queries=200"], defenses=["toy-keep"])
    (cell,) = results["cells"]
    assert cell["queries"]["best_sizes"]["queries"] == recorded
    assert cell["queries"]["best_sizes"]["median"][-1] == pytest.approx(cell["median_linf"], rel=0.2)


@pytest.mark.usefixtures("quick_workers")
def test_two_jobs_give_the_same_results(toy: Toy) -> None:
    axes: dict[str, Any] = {"attacks": ["lines", "lines:eps=none", "climb"], "defenses": ["toy-keep", "toy-noise"]}
    flags = ("--plugin", PLUGIN, "--max-queries", 10, "--threats", "oblivious", "adaptive")
    measures = ("robust_accuracy", "median_linf", "queries")
    one, two = (
        [{name: cell.get(name) for name in measures} for cell in toy(*flags, *more, **axes, store=store)[1]["cells"]]
        for more, store in ((("--jobs", 1), "a"), (("--jobs", 2, "--batch-size", 7), "b"))
    )
    assert one == two


def test_the_limit_is_in_the_key_and_in_the_command(toy: Toy, tmp_path: Path) -> None:
    _, free = toy("--plugin", PLUGIN, attacks=["climb"])
    called, capped = toy("--plugin", PLUGIN, "--max-queries", 5, attacks=["climb"])
    assert "2 cells" in called.err
    assert free["run"]["run"] != capped["run"]["run"]
    assert free["run"]["max_queries"] is None
    assert capped["cells"][0]["robust_accuracy"] > free["cells"][0]["robust_accuracy"]
    suite = tmp_path / "own.toml"
    suite.write_text(
        'datasets = ["toy"]\nmodels = ["toy-linear"]\nattacks = ["climb"]\ndefenses = ["toy-keep", "toy-dim"]\n'
        "max_queries = 5\n"
    )
    _, of_suite = toy("--plugin", PLUGIN, "--suite", suite, attacks=["climb"])
    assert of_suite["run"]["run"] == capped["run"]["run"]


@pytest.mark.parametrize("value", ["0", "-3", "1.5", "many", ""])
def test_a_bad_limit_is_a_usage_error(value: str, toy: Toy) -> None:
    called, _ = toy(f"--max-queries={value}")
    assert called.code == 2
    assert "--max-queries" in called.error_line()


def test_a_bad_limit_in_a_suite_is_a_usage_error(call: Callable[..., Called], tmp_path: Path) -> None:
    suite = tmp_path / "bad.toml"
    suite.write_text("max_queries = 0\n")
    called = call("matrix", "--suite", suite)
    assert called.code == 2
    assert "max_queries must be a whole number of at least 1" in called.error_line()


@pytest.mark.parametrize(("most", "known"), [(8, False), (10**6, True)])
def test_an_ensemble_that_the_limit_ends_does_not_say_that_no_attack_of_it_fooled_anything(
    call: Callable[..., Called], tmp_path: Path, most: int, known: bool
) -> None:
    target = tmp_path / "results.json"
    axes = ("--datasets", "mnist-20", "--models", "mnist-cnn", "--defenses", "none", "--threats", "oblivious")
    attack = ("--attacks", "autoattack:eps=0.3,steps=10,queries=2,targets=1", "--limit", 5, "--max-queries", most)
    assert call("matrix", *axes, *attack, "--export", target).code == 0
    (cell,) = json.loads(target.read_text())["cells"]
    assert cell["robust_accuracy"] < 1
    fooled = None if cell["broken_by"] is None else sum(cell["broken_by"].values())
    assert fooled == (round(5 * (1 - cell["robust_accuracy"])) if known else None)


@pytest.mark.parametrize("size", [1, 5])
def test_samples_are_charged_for_their_own_gradients_alone(
    call: Callable[..., Called], tmp_path: Path, size: int
) -> None:
    target = tmp_path / "results.json"
    axes = ("--datasets", "mnist-20", "--models", "mnist-cnn", "--attacks", "deepfool", "--defenses", "none")
    flags = ("--limit", 5, "--max-queries", 20, "--batch-size", size, "--export", target)
    assert call("matrix", *axes, *flags).code == 0
    (cell,) = json.loads(target.read_text())["cells"]
    assert cell["robust_accuracy"] == 0.4
