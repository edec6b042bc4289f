"""Several surrogates of the transfer threat: columns, keys, reports and commands that name them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called
from tests.fitting_plugin import __file__ as FITTING

from advbench.session.options import RunOptions
from advbench.session.run import MatrixRun
from advbench.session.session import Session
from advbench.session.suites import suite_of
from advbench.store import Store

pytestmark = pytest.mark.slow

Toy = Callable[..., tuple[Called, dict[str, Any]]]

TRANSFER = ("--threats", "transfer", "--surrogate")
TWO, THREE = "toy-linear:scale=2", "toy-linear:scale=3"


def words(text: str) -> str:
    """Text whose lines are not broken."""
    return " ".join(text.split())


def manifest(folder: Path, results: dict[str, Any]) -> dict[str, Any]:
    found = Store(folder).read_manifest(results["run"]["run"])
    assert found is not None
    return found


def test_each_attack_has_a_column_for_each_surrogate(toy: Toy, tmp_path: Path) -> None:
    flags = ["--threats", "oblivious", "transfer", "--surrogate", TWO, "B=" + THREE, "--limit", 20]
    called, results = toy(*flags, "--export", tmp_path / "cells.csv", "--export", tmp_path / "page.html")
    assert called.code == 0, called.err
    assert "× 2 threats, transfer with 2 surrogates, = 6 cells" in called.err
    assert results["run"]["surrogate"] == [TWO, THREE]
    (board,) = results["leaderboards"]
    attack = results["cells"][0]["attack"]
    heads = [(column["threat"], column["attack"], column["surrogate"]) for column in board["columns"]]
    assert heads == [("oblivious", attack, None), ("transfer", attack, TWO), ("transfer", attack, THREE)]
    assert [cell["surrogate"] for cell in results["cells"]] == [None, None, TWO, TWO, THREE, THREE]
    assert "surrogate" not in results["cells"][0]["short"]
    assert [cell["short"]["surrogate"] for cell in results["cells"][2:]] == [TWO, TWO, "B", "B"]
    assert "(surrogates toy-linear:scale=2, B)" in words(called.out)
    assert "on toy-linear:" in called.out
    assert "on B" in called.out
    with (tmp_path / "cells.csv").open(newline="") as file:
        assert [row["surrogate"] for row in csv.DictReader(file)] == ["", "", TWO, TWO, THREE, THREE]
    assert "<small>on B</small>" in (tmp_path / "page.html").read_text("utf-8")
    assert f"--surrogate {TWO} B={THREE}" in results["run"]["command"]


def test_a_run_with_several_shares_the_results_of_runs_with_one(toy: Toy, tmp_path: Path) -> None:
    one, alone = toy(*TRANSFER, TWO)
    assert alone["run"]["surrogate"] == TWO
    assert alone["cells"][0]["surrogate"] == TWO
    assert "surrogate" not in alone["cells"][0]["short"]
    assert " on " not in words(one.out.partition("Threat transfer")[0])
    both, results = toy(*TRANSFER, TWO, THREE)
    assert "2 in the store, 2 to do" in both.err
    keys = [cell["key"] for cell in manifest(tmp_path / "store", results)["cells"]]
    assert keys[:2] == [cell["key"] for cell in manifest(tmp_path / "store", alone)["cells"]]
    assert len(set(keys)) == 4
    again, repeated = toy(*TRANSFER, TWO, THREE)
    assert "all 4 cells come from the store" in again.err
    assert repeated["cells"] == results["cells"]


def test_each_model_is_attacked_from_the_others(toy: Toy) -> None:
    models = ["toy-linear", TWO]
    called, results = toy(*TRANSFER, *models, models=models, defenses=["toy-keep"])
    assert called.code == 0, called.err
    states = {(cell["model"], cell["surrogate"]): cell["status"] for cell in results["cells"]}
    first = "toy-linear:scale=1"
    assert states == {(first, first): "skipped", (first, TWO): "ok", (TWO, first): "ok", (TWO, TWO): "skipped"}
    assert [board["columns"][0]["surrogate"] for board in results["leaderboards"]] == [TWO, first]
    above = called.out.partition("Threat transfer")[0]
    assert "on toy-linear" in above, called.out  # a single column still says which of the surrogates it is
    assert "skipped: the surrogate toy-linear is the model itself" in called.out


RGB = """
import dataclasses, torch
from advbench.api import Model, hookimpl, param

@dataclasses.dataclass(frozen=True)
class Rgb(Model):
    \"\"\"A linear classifier of colour images.\"\"\"
    name = "rgb-linear"
    self_contained = True
    image_shape = (3, 4, 4)
    num_classes = 3
    scale: float = param(1.0, above=0, help="factor of all weights")

    def load(self):
        weights = self.scale * torch.randn(3, 48, generator=torch.Generator().manual_seed(1))
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3, bias=False))
        network[1].weight.data.copy_(weights)
        return network.eval()

    def weights_digest(self):
        return f"{self.scale}"

@hookimpl
def register_models(register):
    register(Rgb)
"""


def test_each_dataset_has_columns_of_the_surrogates_that_can_classify_it(toy: Toy, tmp_path: Path) -> None:
    plugin = tmp_path / "rgb.py"
    plugin.write_text(RGB)
    flags = ("--plugin", plugin, *TRANSFER, TWO, "rgb-linear:scale=2")
    models = ["toy-linear", "rgb-linear"]
    called, results = toy(*flags, datasets=["toy", "toy-rgb"], models=models, defenses=["toy-keep"])
    assert called.code == 0, called.err
    boards = {
        board["dataset"]: [column["surrogate"] for column in board["columns"]] for board in results["leaderboards"]
    }
    assert boards == {"toy:size=40": [TWO], "toy-rgb": ["rgb-linear:scale=2"]}
    assert "skipped: toy-linear takes images of (1, 4, 4), toy-rgb has (3, 4, 4)" in words(called.out)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([*TRANSFER, TWO, TWO + ".0"], f"--surrogate: {TWO!r} and '{TWO}.0' are the same after defaults"),
        ([*TRANSFER, TWO, "toy-liner"], "unknown model 'toy-liner'; did you mean"),
        (["--surrogate", TWO, THREE], f"--surrogate {TWO} {THREE}: only the threat 'transfer' has them; add it to"),
        ([*TRANSFER], "--surrogate: expected at least one argument"),
    ],
)
def test_surrogates_that_cannot_be_used_are_refused(toy: Toy, flags: list[str], message: str) -> None:
    called, _ = toy(*flags)
    assert called.code == 2
    assert message in called.error_line()


def test_a_sweep_stands_for_several_surrogates(toy: Toy) -> None:
    _, results = toy(*TRANSFER, "toy-linear:scale={2,3}", defenses=["toy-keep"])
    assert [cell["surrogate"] for cell in results["cells"]] == [TWO, THREE]


@pytest.mark.parametrize(
    ("value", "specs"), [(f'"{TWO}"', [TWO]), (f'["{TWO}", "{THREE}"]', [TWO, THREE]), ("[]", None), ("[2]", None)]
)
def test_a_suite_names_one_surrogate_or_several(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, specs: list[str] | None
) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    suite = tmp_path / "several.toml"
    suite.write_text(
        'datasets = ["toy"]\nmodels = ["toy-linear"]\nattacks = ["toy-sign"]\ndefenses = ["toy-keep"]\n'
        f'threats = ["transfer"]\nsurrogate = {value}\n'
    )
    target = tmp_path / "results.json"
    flags = ("--suite", suite, "--plugin", TOY, "--store", tmp_path / "store", "--limit", 5, "--export", target)
    called = call("matrix", *flags)
    if specs is None:
        assert called.code == 2
        assert "surrogate must be a spec or a list of specs, as text" in called.error_line()
        return
    assert called.code == 0, called.err
    assert [cell["surrogate"] for cell in json.loads(target.read_text())["cells"]] == specs


def test_an_artefact_is_asked_for_by_its_surrogate(toy: Toy, call: Callable[..., Called], tmp_path: Path) -> None:
    flags = ("--plugin", FITTING, "--limit", 20, "--fit-samples", 20, *TRANSFER, TWO, THREE)
    called, results = toy(*flags, attacks=["universal"], defenses=["toy-keep"])
    assert called.code == 0, called.err
    run, target = results["run"]["run"], tmp_path / "fitted.safetensors"
    ask = lambda cell: call("artefact", run, cell, target, "--store", tmp_path / "store")  # noqa: E731
    refused = ask("universal")
    assert refused.code == 2
    assert f"toy toy-linear universal transfer surrogate={TWO} toy-keep" in refused.error_line()
    assert ask(f"universal surrogate={TWO}").code == 0
    first = target.read_bytes()
    assert ask(f"toy toy-linear universal transfer surrogate={THREE} toy-keep").code == 0
    assert target.read_bytes() != first
    assert ask("universal surrogate=toy-linear:scale=4").code == 2


def test_cells_of_one_surrogate_are_compared(toy: Toy, call: Callable[..., Called], tmp_path: Path) -> None:
    _, single = toy(*TRANSFER, THREE)
    _, results = toy("--threats", "oblivious", *TRANSFER[1:], TWO, THREE)
    compare = lambda *given: call("compare", "--store", tmp_path / "store", *given)  # noqa: E731
    shown = json.loads(compare("--defenses", "toy-keep", "toy-dim", "--format", "json").out)["rows"]
    by = {(cell["threat"], cell["surrogate"] or "", cell["defense"]): cell for cell in results["cells"]}
    assert [row["surrogate"] for row in shown] == ["", TWO, THREE, ""]
    for row in shown[:-1]:
        assert row["first"] == by[row["threat"], row["surrogate"], "toy-keep"]["robust_accuracy"]
    assert shown[-1]["attack"] == "worst case"
    table = compare("--defenses", "toy-keep", "toy-dim").out
    assert table.split()[:2] == ["threat", "surrogate"]
    runs = [one["run"]["run"] for one in (single, results)]
    rows = json.loads(compare(*runs, "--format", "json").out)["rows"]
    assert [row["surrogate"] for row in rows if row["attack"] != "worst case"] == [THREE, THREE]
    assert all(row["difference"] == 0 for row in rows if row["attack"] != "worst case")
    assert f"surrogate: {THREE} → {TWO}, {THREE}" in words(compare(*runs).out)


def test_findings_name_the_surrogate(toy: Toy, call: Callable[..., Called], tmp_path: Path) -> None:
    cheating = Path(__file__).parents[1] / "cheating_plugin.py"
    flags = ("--plugin", cheating, "--threats", "adaptive", "transfer", "--surrogate", TWO, THREE)
    _, results = toy(*flags, defenses=["cheat-flat"])
    messages = [one["message"] for one in results["findings"] if one["criterion"] == "less-access-does-better"]
    assert len(messages) == 2  # with the images of each
    assert f"(cheat-flat, transfer on {TWO})" in messages[0]
    assert f"(cheat-flat, transfer on {THREE})" in messages[1]
    audit = json.loads(call("audit", "--format", "json", "--store", tmp_path / "store").out)
    assert "surrogate" not in audit[0]["cells"][0]


def test_attacks_on_different_surrogates_are_not_compared_with_each_other(toy: Toy) -> None:
    """A single step on one surrogate may well do better than many steps on another."""
    cheating = Path(__file__).parents[1] / "cheating_plugin.py"
    flags = ("--plugin", cheating, *TRANSFER, TWO, THREE)
    _, results = toy(*flags, attacks=["toy-sign:eps=0.2", "cheat-idle:eps=0.2"], defenses=["toy-keep"])
    found = [one for one in results["findings"] if one["criterion"] == "iterative-weaker-than-single-step"]
    assert sorted(results["cells"][index]["surrogate"] for one in found for index in one["cells"]) == [TWO, THREE]
    assert f"(the surrogate {TWO}, which has no row on the board)" in found[0]["message"]


def test_seeds_and_doubled_steps_keep_surrogates_apart(toy: Toy) -> None:
    cheating = Path(__file__).parents[1] / "cheating_plugin.py"
    flags = ("--plugin", cheating, *TRANSFER, TWO, THREE, "--seeds", 0, 1, "--limit", 20, "--check-convergence")
    called, results = toy(*flags, attacks=["cheat-slow:eps=0.2,steps=2"], defenses=["toy-keep"])
    assert called.code == 0, called.err
    assert "2 more cells to do" in called.err
    assert [cell["surrogate"] for cell in results["cells"]] == [TWO, THREE]
    assert all(len(cell["robust_accuracy_seeds"]["values"]) == 2 for cell in results["cells"])


def test_records_find_the_images_of_their_surrogate(
    registry_session: Callable[..., Session],
) -> None:
    session = registry_session(threats=("transfer",), surrogate=(TWO, "toy-linear:scale=0.1"))
    run = MatrixRun(session, suite_of(session.suite, session.options, session.registry), "")
    run.announce()
    run.results()
    images = [run.images(record) for record in run.records()]
    stored = [session.store.read_tensors(cell.chunks[0].key) for cell in run.plan.cells]
    assert len(images) == 2
    for found, expected in zip(images, stored, strict=True):
        assert found is not None
        assert expected is not None
        assert (found[1] == expected[0]["images"]).all()
    assert not (images[0][1] == images[1][1]).all()  # type: ignore[index]


@pytest.fixture
def registry_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Session]:
    """A session on the toys."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    toys = {"datasets": ("toy",), "models": ("toy-linear",), "attacks": ("toy-sign",), "defenses": ("toy-keep",)}
    where = {"plugin": (Path(TOY),), "store": tmp_path / "store", "verbosity": -1}
    return lambda **given: Session(RunOptions(**{**toys, **where, **given}))
