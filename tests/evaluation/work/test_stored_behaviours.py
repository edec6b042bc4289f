"""Stored results are used again only if a network has the same outputs as when they were computed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

pytestmark = [pytest.mark.slow(minutes=1), pytest.mark.usefixtures("quick_workers")]

Run = Callable[..., tuple[Called, dict[str, Any]]]

PLUGIN = """
import json, os, pathlib
from dataclasses import dataclass
import torch
from advbench.api import Model, hookimpl, param

HERE = pathlib.Path(__file__).parent

class Net(torch.nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
        self.weights = torch.nn.Parameter(torch.randn(3, 16, generator=torch.Generator().manual_seed(3)))
        if how == "config":
            self.bias = json.loads((HERE / "config.json").read_text())
        if how == "array":
            self.bias = torch.tensor(json.loads((HERE / "config.json").read_text()))

    def forward(self, images):
        logits = (images.flatten(1) - 0.5) @ self.weights.T
        if self.how in ("config", "array"):
            bias = self.bias
        elif self.how == "file":
            bias = json.loads((HERE / "config.json").read_text())
        elif self.how == "variable":
            bias = float(os.environ.get("NET_BIAS", 0))
        elif self.how == "lazy":
            import bias as beside
            bias = beside.BIAS
        elif self.how == "process":
            bias = float(os.getpid())
        elif self.how == "dropout":
            return torch.nn.functional.dropout(logits, 0.5, training=True)
        elif self.how == "nan":
            return logits * float("nan")
        elif self.how == "raises":
            raise ValueError("on purpose")
        elif self.how == "ends":
            os._exit(7)
        else:
            bias = 0.0
        return logits + torch.eye(3, device=images.device)[1] * bias

@dataclass(frozen=True)
class Configured(Model):
    "A linear classifier that something else than its weights shapes, too."

    name = "configured"
    image_shape = (1, 4, 4)
    num_classes = 3
    how: str = param("config", help="what does")

    def load(self):
        return Net(self.how)

    def weights_digest(self):
        return "fixed"

@hookimpl
def register_models(register):
    register(Configured)
"""


@pytest.fixture
def run(toy: Run, tmp_path: Path) -> Run:
    """Evaluates a network of the plugin."""
    plugin = tmp_path / "configured_plugin.py"
    plugin.write_text(PLUGIN)
    (tmp_path / "config.json").write_text("0")
    (tmp_path / "bias.py").write_text("BIAS = 0.0")

    def evaluated(how: str, *flags: object) -> tuple[Called, dict[str, Any]]:
        return toy("--plugin", plugin, *flags, models=(f"configured:how={how}",), defenses=("toy-keep",))

    return evaluated


def change(how: str, bias: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NET_BIAS", bias)
    (folder / "config.json").write_text(bias)
    if how == "lazy":
        (folder / "bias.py").write_text(f"BIAS = {bias}")


def clean(results: dict[str, Any]) -> Any:
    return results["cells"][0]["clean_accuracy"]


@pytest.mark.parametrize("how", ["config", "array", "file", "variable", "lazy"])
def test_what_shapes_answers_beside_code_and_weights_is_in_the_key(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    change(how, "0", tmp_path, monkeypatch)
    _, before = run(how)
    change(how, "99", tmp_path, monkeypatch)
    called, after = run(how)
    assert clean(before) == 0.9
    assert clean(after) < 0.6
    if how != "lazy":  # whose code is in the key
        name = "configured" if how == "config" else f"configured:how={how}"
        said = " ".join(called.err.split())
        assert f"model '{name}' has other outputs than when its stored results were computed" in said
    change(how, "0", tmp_path, monkeypatch)
    called, again = run(how)
    assert clean(again) == clean(before)
    assert "all 1 cells come from the store" in called.err
    assert "has other outputs" not in called.err


def test_a_dry_run_tells_what_a_run_would_do_and_writes_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called, _ = run("file", "--dry-run")
    assert (called.code, called.out[:5]) == (0, "to do")
    assert not (tmp_path / "store").exists()
    run("file")
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.json")}
    assert run("file", "--dry-run")[0].out[:6] == "stored"
    change("file", "99", tmp_path, monkeypatch)
    called, _ = run("file", "--dry-run")
    assert called.out[:5] == "to do"
    assert "has other outputs" in called.err
    assert before == {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.json")}


def test_a_network_that_answers_at_random_is_named_and_never_used_again(run: Run) -> None:
    for _ in range(2):
        called, _ = run("dropout")
        assert "is random: two passes" in called.err
        assert "0 in the store, 1 to do" in called.err


@pytest.mark.parametrize(("how", "message"), [("nan", ""), ("raises", "ValueError: on purpose")])
def test_what_breaks_its_contract_fails_in_its_cell(run: Run, how: str, message: str) -> None:
    called, results = run(how)
    assert called.code == 1
    assert results["cells"][0]["status"] == "error"
    assert message in results["cells"][0]["error"]


def test_a_network_that_ends_its_process_or_differs_there_fails_in_its_cell(run: Run) -> None:
    called, results = run("ends", "--jobs", 2)
    assert called.code == 1
    assert "its worker process died" in results["cells"][0]["error"]
    called, results = run("process", "--jobs", 2)
    assert called.code == 1
    assert "model 'configured:how=process' has other outputs in a worker" in results["cells"][0]["error"]


def test_what_networks_answered_is_an_entry_of_the_store(
    run: Run, call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("file")
    change("file", "99", tmp_path, monkeypatch)
    run("file")
    store = tmp_path / "store"
    (entry,) = (store / "networks").glob("*/*.json")
    for path in store.rglob("*.json"):
        os.utime(path, (1e9, 1e9))
    assert "there is nothing to delete" in call("cache", "gc", "--store", store).out
    assert "all are intact" in call("cache", "verify", "--store", store).out
    assert "networks" in call("cache", "ls", "--store", store).out
    entry.write_bytes(entry.read_bytes()[:-9])
    assert "damaged" in call("cache", "verify", "--store", store).out
    called, results = run("file")
    assert called.code == 0
    assert clean(results) < 0.6
    called = call("cache", "rm", "latest", "--store", store)
    assert called.code == 0
    assert entry.exists(), "another run of the network refers to it"


def test_runs_of_an_earlier_version_are_named(
    run: Run, call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        for module in ("evaluation.plan.keys", "evaluation.run.manifest", "evaluation.work.behaviour.stored"):
            patch.setattr(f"advbench.{module}.SCHEMA", 1)
        run("none")
    called, _ = run("none")
    assert "0 in the store, 1 to do" in called.err
    assert called.err.count("has results of an earlier version of advbench") == 1
    assert "earlier version" not in run("none", "--rerun", "all")[0].err, "named once"
    store = tmp_path / "store"
    runs = json.loads(call("cache", "ls", "--store", store, "--format", "json").out)["runs"]
    (older,) = (one["run"] for one in runs if one["schema"] == 1)
    shown = " ".join(call("cache", "ls", "--store", store).out.split())
    assert f"of an earlier advbench, whose results are shown but not used again: {older} 'advbench cache rm" in shown


DEFENSE = """
import json, os, pathlib
from dataclasses import dataclass
from advbench.api import Defense, hookimpl, param

@dataclass(frozen=True)
class Factor(Defense):
    "Multiplies the images by a number that is neither in its code nor in its parameters."

    name = "factor"
    how: str = param("variable", help="where the number is from")

    def apply(self, images, rng):
        if self.how == "raises":
            raise ValueError("on purpose")
        if self.how == "ends":
            os._exit(7)
        if self.how == "interrupts":
            raise KeyboardInterrupt
        file = pathlib.Path(__file__).with_name("factor.json")
        return images * (float(os.environ["FACTOR"]) if self.how == "variable" else json.loads(file.read_text()))

@hookimpl
def register_defenses(register):
    register(Factor)
"""


@pytest.mark.parametrize(
    ("chain", "jobs"), [("factor", 1), ("factor:how=file", 1), ("toy-dim+factor", 1), ("factor:how=file", 2)]
)
def test_what_shapes_a_plugins_defense_is_in_the_key(
    toy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chain: str, jobs: int
) -> None:
    plugin = tmp_path / "factor_plugin.py"
    plugin.write_text(DEFENSE)

    def run(factor: str) -> tuple[Called, Any]:
        monkeypatch.setenv("FACTOR", factor)
        (tmp_path / "factor.json").write_text(factor)
        called, results = toy("--plugin", plugin, "--jobs", jobs, defenses=("toy-keep", chain))
        assert called.code == 0, called.err
        return called, [cell["clean_accuracy"] for cell in results["cells"]]

    _, before = run("1")
    called, after = run("0")
    assert before[0] == after[0]
    assert after[1] < before[1]
    assert "has other outputs than when its stored results were computed" in " ".join(called.err.split())
    called, again = run("1")
    assert again == before
    assert "all 2 cells come from the store" in called.err


@pytest.mark.parametrize(
    ("how", "jobs", "message"),
    [
        ("raises", 1, "ValueError: on purpose"),
        ("ends", 2, "its worker process died"),
        ("interrupts", 2, "KeyboardInterrupt"),
    ],
)
def test_a_defense_that_fails_when_it_is_asked_fails_in_its_own_cells(
    toy: Run, tmp_path: Path, how: str, jobs: int, message: str
) -> None:
    plugin = tmp_path / "factor_plugin.py"
    plugin.write_text(DEFENSE)
    called, results = toy("--plugin", plugin, "--jobs", jobs, defenses=("toy-keep", f"factor:how={how}"))
    assert called.code == 1
    assert [cell["status"] for cell in results["cells"]] == ["ok", "error"]
    assert message in results["cells"][1]["error"]


def test_a_network_that_mixes_its_batch_is_observed_with_one_batch_size_in_all_processes(
    call: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "mixes.py").write_text(
        "import torch\n"
        "class Mixes(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__(); torch.manual_seed(0); self.net = torch.nn.Linear(784, 10)\n"
        "    def forward(self, images):\n"
        "        logits = self.net(images.flatten(1)); return logits - logits.mean(dim=0)\n"
    )
    model = f"torch-module:build={tmp_path / 'mixes.py'}:Mixes"
    called = call(
        "matrix", "--datasets", "mnist-20", "--limit", 3, "--models", model,
        "--attacks", "noise", "--defenses", "none", "--store", tmp_path / "store", "--export", tmp_path / "r.json",
    )  # fmt: skip
    assert called.code == 0, called.err
    assert "batch-dependent" in (tmp_path / "r.json").read_text()
