"""Perturbation sets in a run: closed forms, notes and sizes in the store, messages, and skipped combinations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TOY, Called

from advbench.discovery.loading import discover
from advbench.evaluation.plan.tasks import CraftTask, JoinTask
from advbench.evaluation.work.craft import craft, join
from advbench.evaluation.work.workspace import Environment, Workspace
from advbench.process.watching.attributes import watch_attributes
from advbench.session.opening import CORE
from advbench.store import digest_of

pytestmark = pytest.mark.slow

PLUGIN = Path(__file__).with_name("sets_plugin.py")

Toy = Callable[..., tuple[Called, dict[str, Any]]]
Crafted = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture
def run(toy: Toy) -> Callable[..., tuple[Called, dict[str, Any]]]:
    """Runs a matrix on the dark images and the model that looks at the corner."""

    def matrix(*attacks: str, defenses: tuple[str, ...] = ("toy-keep",), flags: tuple[object, ...] = ()) -> Any:
        return toy(
            *("--plugin", PLUGIN, *flags), attacks=attacks, defenses=defenses, datasets=("dark",), models=("corner",)
        )

    return matrix


@pytest.fixture
def crafted(tmp_path: Path) -> Crafted:
    """Attacks the dark images; returns what is stored, of the whole chunk or of parts that are joined."""
    watch_attributes()
    registry = discover(CORE, (TOY, PLUGIN), without=("*",))

    def attack(spec: str, defense: str | None = None, batch_size: int = 250, parts: int = 1) -> dict[str, torch.Tensor]:
        environment = Environment(
            store=tmp_path, cache_dir=tmp_path, data_dir=None, device="cpu", batch_size=batch_size, core=CORE
        )
        workspace = Workspace(environment, registry)
        ids, name = tuple(range(100, 120)), {"ids": "all", "of": [spec, defense, batch_size, parts]}
        threat = "oblivious" if defense is None else "adaptive"
        spans = [None] if parts == 1 else [(i * 20 // parts, (i + 1) * 20 // parts) for i in range(parts)]
        for span in spans:
            task = CraftTask(name, ids, "dark", "corner", spec, threat, defense or "", 0, 1, "float32", span, None)
            craft(workspace, task, lambda _: None)
        if parts > 1:
            join(workspace, JoinTask(name, tuple(span for span in spans if span is not None)))
        stored = workspace.store.read_tensors(digest_of(name))
        assert stored is not None
        return stored[0]

    return attack


def test_a_patch_succeeds_in_the_corner_that_the_model_looks_at_and_nowhere_else(run: Any) -> None:
    places = ["row=0,column=0", "row=0,column=2", "row=6,column=6", "row=3,column=3"]
    called, results = run(*(f"white-square:{place}" for place in places))
    assert called.code == 0, called.err
    rates = [cell["attack_success_rate"] for cell in results["cells"]]
    assert rates == [16 / 20, 0, 0, 0]  # the other four are bright in the corner, as the square is


def test_sizes_are_stored_and_summarised(run: Any, crafted: Crafted) -> None:
    called, results = run("white-square:side=2", "turns:angle=-90", "brighter:severity=2", "toy-sign", "toy-minimal")
    assert called.code == 0, called.err
    cells = {cell["attack"].partition(":")[0]: cell for cell in results["cells"]}
    assert cells["white-square"]["perturbation"] == {"kind": "patch", "label": "area ≤ 6.25 %", "size": "area"}
    assert cells["turns"]["perturbation"] == {"kind": "geometric", "label": "±90°, ±1 px", "size": "angle"}
    assert cells["brighter"]["perturbation"] == {"kind": "corruption", "label": "severity 2", "size": "rms"}
    assert cells["toy-sign"]["perturbation"] == {"kind": "lp", "label": "L∞ ≤ 0.1", "size": "linf"}
    assert cells["toy-minimal"]["perturbation"] == {"kind": "lp", "label": "unbounded", "size": None}
    kinds = [cells[name]["attack_kind"] for name in ("white-square", "turns", "brighter", "toy-sign", "toy-minimal")]
    assert kinds == ["set", "set", "natural", "budget", "minimal"]
    assert cells["white-square"]["budget"] is cells["turns"]["budget"] is None
    assert cells["white-square"]["median_size"] == 4 / 64
    assert cells["toy-sign"]["median_size"] == cells["toy-sign"]["median_linf"]
    assert cells["turns"]["median_size"] == 90  # of those that fool the model
    turned = crafted("turns:angle=-90")
    assert (turned["size"].tolist(), turned["size_shift"].tolist()) == ([90.0] * 20, [0.0] * 20)
    assert turned["angle"].tolist() == [-90.0] * 20


@pytest.mark.parametrize("spec", ["white-square:goal=1", "steepest-square:goal=1", "turns:angle=5"])
def test_notes_survive_batches_parts_and_samples_that_are_not_attacked(crafted: Crafted, spec: str) -> None:
    whole = crafted(spec)
    names = {"mask"} if "square" in spec else {"angle", "dx", "dy"}
    assert names | {"size"} <= set(whole)
    if "square" in spec:
        attacked = whole["targets"] >= 0
        assert attacked.sum() == 16
        assert not whole["mask"][~attacked].any()
        assert not whole["size"][~attacked].any()
        assert (whole["mask"][attacked].flatten(1).sum(dim=1) == 4).all()
        assert ("seen" in whole) is False
    for options in ({"batch_size": 1}, {"batch_size": 3}, {"parts": 4}):  # with 1, some batches are not attacked at all
        other = crafted(spec, **options)
        assert set(other) == set(whole)
        assert all(torch.equal(other[name], whole[name]) for name in (*names, "images", "size"))


def test_each_sample_keeps_the_notes_of_its_best_approximation(crafted: Crafted) -> None:
    stored = crafted("steepest-square", "two-ways")
    fooled = stored["predictions"] != stored["labels"]
    right = torch.zeros(8, 8, dtype=torch.bool)
    right[:2, 6:] = True
    dark = stored["clean_predictions"] == stored["labels"]
    assert fooled[dark].all()
    # The first approximation points at the left corner, which the mirrored image does not show to the model.
    assert (stored["mask"][dark][:, 0] == right).all()
    assert (stored["images"] != 0).any()


MESSAGES = {
    "white-square:how=outside": "attack 'white-square', patch area ≤ 6.25 %, sample 100 (and 19 more): 1 pixel changed "
    "outside its mask, which covers 6.25 % of the image",
    "white-square:how=unmasked": "attack 'white-square', patch area ≤ 6.25 %, sample 100 (and 19 more): its mask "
    "covers 56.25 % of the image",
    "white-square:how=no-note": "attack 'white-square', patch area ≤ 6.25 %: returned no note 'mask'; return "
    "Crafted(images, notes) with 'mask'",
    "turns:how=beyond": "attack 'turns', geometric ±5°, ±1 px, sample 100 (and 19 more): rotated by 10° and shifted by "
    "(0, 0) px",
    "turns:how=rendered": "rotated by 10° and shifted by (0, 0) px, but its pixels differ by up to",
    "brighter:how=bits": "attack 'brighter', corruption severity 1, sample 100",
    "contradiction": "attack 'contradiction' has the perturbation set Corruption(severity=1), but its access is "
    "'gradients'; a corruption does not use the model",
}


def test_images_outside_their_set_fail_their_cells_with_one_line(run: Any) -> None:
    called, results = run(*MESSAGES, "white-square")
    assert called.code == 1
    errors = [cell["error"] for cell in results["cells"]]
    assert errors.pop() is None
    for error, message in zip(errors, MESSAGES.values(), strict=True):
        assert message in error
        assert "\n" not in error


def test_a_patch_larger_than_the_image_skips_its_cells_with_the_reason(run: Any) -> None:
    called, results = run("white-square:side=9", "white-square")
    assert called.code == 0, called.err
    skipped, done = results["cells"]
    assert (skipped["status"], done["status"]) == ("skipped", "ok")
    assert "side=9: the images have 8×8 pixels" in skipped["error"]


def test_each_kind_of_set_has_a_board_and_corruptions_have_a_mean(run: Any) -> None:
    attacks = ["toy-sign", "turns:angle=90", "turns:angle=-90", "brighter:severity={1,5}", "white-square"]
    threats = ("--threats", "oblivious", "adaptive")
    called, results = run(*attacks, defenses=("toy-keep", "toy-dim"), flags=threats)
    assert called.code == 0, called.err
    assert "6 attacks × 2 defenses × 2 threats, corruptions under a single threat, = 20 cells" in called.err
    boards = {board["kind"]: board for board in results["leaderboards"]}
    assert list(boards) == ["lp", "geometric", "corruption", "patch"]
    columns = [[column["attack"].partition(":")[0] for column in board["columns"]] for board in boards.values()]
    assert columns == [["toy-sign"] * 2, ["turns"] * 4, ["brighter"] * 2, ["white-square"] * 2]
    accuracies = {
        (cell["attack"], cell["threat"]): cell["robust_accuracy"]
        for cell in results["cells"]
        if cell["defense"] == "toy-keep"
    }
    corruptions = [accuracy for (name, threat), accuracy in accuracies.items() if threat == "none"]
    assert corruptions == [1.0, 0.2]  # 0.2 of brightness stay below the middle grey, 0.5 do not
    (row,) = (row for row in boards["corruption"]["rows"] if row["defense"] == "toy-keep")
    assert (row["worst_case"], row["marks"], row["worst_case_under"]) == (None, [], {})
    assert row["mean"]["accuracy"] == pytest.approx(0.6)
    assert row["mean"]["complete"]
    (turned,) = (row for row in boards["geometric"]["rows"] if row["defense"] == "toy-keep")
    assert turned["worst_case"]["accuracy"] == 0.8  # the bright corner leaves the corner in both directions
    assert boards["corruption"]["threats"] == ["none"]
    assert "no attacker" in results["run"]["threats"]["none"]["meaning"]
    assert "dark · corner · rotations and shifts · oblivious and adaptive · n = 20" in called.out.replace("|", "·")
    assert "dark · corner · corruptions · n = 20" in called.out.replace("|", "·")


def test_a_run_compares_worst_cases_within_a_kind(run: Any, call: Callable[..., Called], tmp_path: Path) -> None:
    run("toy-sign:eps={0.1,0.2}", "turns:angle={90,-90}", "brighter:severity={1,5}", defenses=("toy-keep", "toy-dim"))
    compared = call(
        *("compare", "latest", "--defenses", "toy-keep", "toy-dim", "--store", tmp_path / "store", "--format", "json")
    )
    assert compared.code == 0, compared.err
    worst = [row["attack"] for row in json.loads(compared.out)["rows"] if row["attack"].startswith("worst case")]
    assert worst == ["worst case (lp)", "worst case (geometric)"]


def test_the_mean_corruption_error_is_relative_to_a_model_of_the_run(
    run: Any, call: Callable[..., Called], tmp_path: Path
) -> None:
    attacks = ("brighter:severity=5", "toy-sign")
    called, results = run(*attacks, defenses=("toy-dim",), flags=("--reference", "corner"))
    assert called.code == 0, called.err
    board = next(board for board in results["leaderboards"] if board["kind"] == "corruption")
    assert (board["reference"], board["rows"][0]["mce"]) == ("corner", None)  # it was not run without a defense
    stored = call("leaderboard", "latest", "--store", tmp_path / "store")
    assert ("mCE" in called.out, "mCE" in stored.out) == (True, True)
    called, results = run(*attacks, flags=("--reference", "wrong"))
    assert called.code == 2
    assert called.error_line().endswith("--reference wrong: give a model of this run; there are: corner")
