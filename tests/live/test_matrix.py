"""``advbench.matrix``: the command's results, with live objects beside specs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.toy_plugin import Dim, Linear, ToySign

import advbench
import advbench.results
from advbench.api import Defense, SampleRandom, param
from advbench.errors import UsageError

pytestmark = pytest.mark.slow

TOY = Path(__file__).parents[1] / "toy_plugin.py"
SCALE = torch.tensor(0.5)
SETTINGS = {"factor": 0.5}


@pytest.fixture(autouse=True)
def toys_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No built-in plugin is loaded."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")


@pytest.fixture
def cached(evaluate: Callable[..., advbench.Results], capsys: pytest.CaptureFixture[str]) -> Callable[..., bool]:
    """Whether all cells come from the store."""

    def ask(**given: Any) -> bool:
        evaluate(**{"quiet": False, **given})
        return "cells come from the store" in " ".join(capsys.readouterr().err.split())

    return ask


@dataclass(frozen=True)
class Dimmer(Defense):
    """A defense that no plugin registers."""

    name = "dimmer"
    factor: float = param(0.5, min=0, max=1, help="what is left of the contrast")

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        return (images - 0.5) * self.factor + 0.5


class Scaled(torch.nn.Module):
    """A network with a value that is no weight."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.linear = Linear(1.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.factor * self.linear(images)  # type: ignore[no-any-return]


def dim(images: torch.Tensor) -> torch.Tensor:
    return (images - 0.5) * 0.5 + 0.5


def dim_by_a_tensor(images: torch.Tensor) -> torch.Tensor:
    return (images - 0.5) * SCALE + 0.5


def dim_by_settings(images: torch.Tensor) -> torch.Tensor:
    return (images - 0.5) * SETTINGS["factor"] + 0.5


def measured(results: advbench.Results) -> list[tuple[Any, ...]]:
    keys = ("status", "n", "clean_accuracy", "robust_accuracy", "median_linf", "median_l2")
    return [tuple(cell[key] for key in keys) for cell in results.data["cells"]]


def test_it_gives_what_the_command_gives_and_shares_its_store(
    evaluate: Callable[..., advbench.Results], toy: Callable[..., Any], cached: Callable[..., bool]
) -> None:
    called, exported = toy("--limit", 20, "--seed", 3)
    assert called.code == 0
    results = evaluate(limit=20, seed=3)
    assert results.data["cells"] == exported["cells"]
    assert results.ok
    assert cached(limit=20, seed=3)
    for line in called.out.splitlines():
        assert line.strip() in str(results) or "run " in line or "command" in line


def test_a_live_network_gives_what_the_model_gives(evaluate: Callable[..., advbench.Results]) -> None:
    network = Linear(1.0)
    live = evaluate(models=network)
    assert measured(live) == measured(evaluate())
    assert live.data["cells"][0]["model"] == "linear"
    assert network.training
    assert network.weights.requires_grad


def test_a_function_is_a_defense_or_a_model(evaluate: Callable[..., advbench.Results]) -> None:
    network = Linear(1.0)
    live = evaluate(models={"f": network.forward}, defenses=["toy-keep", dim])
    assert measured(live) == measured(evaluate(defenses=["toy-keep", "toy-dim:factor=0.5"]))
    assert [cell["defense"] for cell in live.data["cells"]] == ["toy-keep", "dim"]


def test_a_function_that_returns_no_tensor_is_named_with_what_it_returns(
    evaluate: Callable[..., advbench.Results],
) -> None:
    defenses = {
        "array": lambda images: images.numpy(), "first": "array+toy-dim",
        "list": lambda images: [*images], "nothing": lambda images: None,
    }  # fmt: skip
    errors = {
        (cell["short"]["defense"], cell["threat"]): cell["error"]
        for cell in evaluate(defenses=defenses, threats=["oblivious", "adaptive"], limit=5).data["cells"]
    }
    for threat in ("oblivious", "adaptive"):
        assert errors["array", threat] == "ContractError: defense 'array' returned ndarray, not a tensor"
        assert errors["first", threat] == errors["array", threat]
        assert errors["list", threat] == "ContractError: defense 'list' returned list, not a tensor"
        assert errors["nothing", threat] == "ContractError: defense 'nothing' returned NoneType, not a tensor"


def test_components_and_classes_take_their_own_names(evaluate: Callable[..., advbench.Results]) -> None:
    results = evaluate(defenses=[Dimmer(0.25), Dimmer])
    assert [cell["defense"] for cell in results.data["cells"]] == ["dimmer:factor=0.25", "dimmer:factor=0.5"]
    assert measured(results) == measured(evaluate(defenses=["toy-dim:factor=0.25", "toy-dim:factor=0.5"]))


def test_images_and_labels_are_a_dataset(evaluate: Callable[..., advbench.Results]) -> None:
    toy = evaluate(defenses="toy-keep")
    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(7))
    labels = Linear(1.0)(images).argmax(dim=1)
    labels[::10] = (labels[::10] + 1) % 3
    live = evaluate(datasets=(images.numpy(), labels.numpy()), defenses="toy-keep")
    assert measured(live) == measured(toy)


def test_weights_values_and_globals_are_in_the_key(
    cached: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not cached(models=Scaled(2.0))
    assert cached(models=Scaled(2.0))
    assert not cached(models=Scaled(3.0))
    other = Scaled(2.0)
    with torch.no_grad():
        other.linear.weights[0, 0] += 1
    assert not cached(models=other)
    for function, name, value in (
        (dim_by_a_tensor, "SCALE", torch.tensor(0.25)),
        (dim_by_settings, "SETTINGS", {"factor": 0.25}),
    ):
        assert not cached(defenses=function)
        assert cached(defenses=function)
        monkeypatch.setitem(function.__globals__, name, value)
        assert not cached(defenses=function)


@pytest.mark.parametrize("how", ["hook", "state"])
def test_what_no_digest_can_be_made_of_is_kept_for_the_session_and_said_so(
    evaluate: Callable[..., advbench.Results], tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    network = Linear(1.0)
    if how == "hook":
        network.register_forward_hook(lambda module, given, output: output * 2)
        reason = "linear has hooks"
    else:
        network.generator = torch.Generator()
        reason = "linear.generator is a Generator, whose state cannot be determined"
    results = evaluate(models=network, quiet=False)
    assert f"model 'linear': {reason}; the results are kept for this session alone" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not (tmp_path / "store").exists()
    assert results.adversarial(defense="toy-dim").images.shape == (40, 1, 4, 4)


def test_code_in_no_file_is_kept_for_the_session(tmp_path: Path) -> None:
    script = f"""
import advbench
def dim(images):
    return images * 0.5
results = advbench.matrix("toy", "toy-linear", "toy-sign", ["toy-keep", dim], plugin=[{str(TOY)!r}], store="store")
print(results)
"""
    made = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "the code of dim is not in a file; the results are kept for this session alone" in " ".join(
        made.stderr.split()
    )
    assert "worst case" in made.stdout
    assert not (tmp_path / "store").exists()


def test_a_script_of_its_own_is_kept_and_found_again(tmp_path: Path, programs: Mapping[str, str]) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"""
import advbench, torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    def forward(self, images):
        return self.layers(images)
print(advbench.matrix("toy", Net(), "toy-sign", "toy-keep", plugin=[{str(TOY)!r}], store="store"))
""")
    apart: dict[str, Any] = {"cwd": tmp_path, "env": {**os.environ, **programs}, "capture_output": True, "text": True}
    runs = [subprocess.run(["python", script.name], check=True, **apart) for _ in range(2)]
    assert "1 to do" in runs[0].stderr
    assert "all 1 cells come from the store" in runs[1].stderr
    assert runs[0].stdout == runs[1].stdout


def test_a_script_may_use_worker_processes_without_a_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"""
import advbench
with open("runs", "a") as file:
    file.write("x")
defenses = ["toy-keep", "toy-dim"]
results = advbench.matrix("toy", "toy-linear", "toy-sign", defenses, plugin=[{str(TOY)!r}], store="store", jobs=2)
print(results.ok)
""")
    made = subprocess.run([sys.executable, script.name], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert made.stdout == "True\n", made.stderr
    assert (tmp_path / "runs").read_text() == "x"


def test_rows_frame_and_html(evaluate: Callable[..., advbench.Results]) -> None:
    results = evaluate(defenses={"d": dim})
    (row,) = results.rows()
    assert row["defense"] == "d"
    assert row["robust_accuracy_ci95_low"] <= row["robust_accuracy"] <= row["robust_accuracy_ci95_high"]
    assert list(results) == [row]
    assert results.to_frame().iloc[0]["robust_accuracy"] == row["robust_accuracy"]
    html = results._repr_html_()
    assert f">{100 * row['robust_accuracy']:.1f}<" in html
    assert "<table>" in html
    assert "not adaptively attacked" in html
    assert "attacks:<br>toy-sign:eps=0.1,jitter=false,delay=0</small>" in html


def test_html_escapes_what_components_say(evaluate: Callable[..., advbench.Results]) -> None:
    results = evaluate(attacks="toy-rogue")
    results.data["cells"][0]["error"] = "<script>alert(1)</script>"
    html = results._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert not results.ok


def test_adversarial_images_of_a_cell(evaluate: Callable[..., advbench.Results]) -> None:
    results = evaluate(attacks=["toy-sign", "toy-sign:eps=0.2"], limit=20)
    made = results.adversarial(attack="toy-sign:eps=0.2")
    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(7)).numpy()
    assert made.images.shape == (20, 1, 4, 4)
    assert np.abs(made.images - images[made.ids - 100]).max() == pytest.approx(0.2, abs=1e-6)
    logits = Linear(1.0)(torch.from_numpy(made.images))
    assert made.predictions.tolist() == logits.argmax(dim=1).tolist()
    cell = next(cell for cell in results.data["cells"] if "eps=0.2" in cell["attack"] and cell["defense"] == "toy-keep")
    right = (made.clean_predictions == made.labels) & (made.predictions == made.labels)
    assert right.mean() == cell["robust_accuracy"]
    for spelling in ("toy-sign:eps=0.20", "toy-sign:jitter=false,eps=0.2", ToySign(eps=0.2)):
        same = results.adversarial(attack=spelling, dataset="toy:size=40", defense="toy-dim:factor=0.50")
        assert (same.images == made.images).all()
    with pytest.raises(
        UsageError, match=r"the run has several sets of images; add: attack toy-sign, toy-sign:eps=0\.2"
    ):
        results.adversarial()
    with pytest.raises(UsageError, match="no cell has attack='fgsm'"):
        results.adversarial(attack="fgsm")
    with pytest.raises(UsageError, match="unknown 'atack'"):
        results.adversarial(atack="toy-sign")


@pytest.mark.usefixtures("quick_workers")
def test_seeds_show_their_spread(evaluate: Callable[..., advbench.Results]) -> None:
    results = evaluate(seeds=[0, 1], limit=20)
    assert len(results.data["run"]["seeds"]) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limit": 0}, "limit: 0: must be a whole number of at least 1"),
        ({"limmit": 3}, "matrix() has no argument 'limmit'; did you mean 'limit'?"),
        ({"verbosity": 1}, "matrix() has no argument 'verbosity'; did you mean 'verbose'?"),
        ({"export": "x.md"}, "matrix() has no argument 'export'; call .export(FILE) of the results"),
        ({"dry_run": True}, "matrix() has no argument 'dry_run'; only the command has --dry-run"),
        ({"seed": True}, "seed: True: must be a whole number of at least 0"),
        ({"seeds": [1, -1]}, "seeds: -1: must be a whole number of at least 0"),
        ({"seeds": []}, "seeds: is empty; give at least one"),
        ({"device": "gpu"}, "device: gpu: must be auto, cpu, cuda, cuda:N or mps"),
        ({"rerun": "fail"}, "rerun: unknown 'fail'; did you mean 'failed'?"),
        ({"precision": "fp16"}, "precision: unknown 'fp16'; did you mean"),
        ({"memory": 0}, "memory: 0: must be a number of GiB above 0"),
        ({"data_dir": "/no/such/folder"}, "data_dir: /no/such/folder: no such folder"),
        ({"store": ["here"]}, "store: ['here']: give one value"),
        ({"fail_fast": "yes"}, "fail_fast: 'yes': must be True or False"),
        ({"models": 3}, "models: an object of int cannot be used here; give a spec, a Model"),
        ({"attacks": 3}, "attacks: an object of int cannot be used here; give a spec, an Attack, or a function of"),
        ({"models": Linear}, "models: Linear is a class; give an instance of it"),
        ({"defenses": ["toy-keep", dim, dim]}, "defenses: the function dim is given twice; remove one"),
        (
            {"defenses": {"a": "toy-dim:factor={0.25,0.5}"}},
            "is a sweep, which has no alias; give each of its specs one",
        ),
        ({"defenses": {"A b": "toy-dim"}}, "defenses: name 'A b': must be text such as 'A-b'"),
        (
            {"defenses": {"toy-keep": "toy-dim", "b": "toy-keep"}},
            "defenses: 'toy-keep': 'b=toy-keep' is called 'toy-keep', too",
        ),
        ({"defenses": {"a": "toy-dam"}}, "did you mean 'toy-dim'?"),
        ({"defenses": {"toy-dim": dim}}, "defenses: 'toy-dim' is the name of another defense; give a dictionary with"),
        ({"defenses": {"toy-flip": "toy-dim"}}, "defenses: 'toy-flip' is the name of another defense; use another"),
        ({"models": Dim()}, "models: Dim is not a Model"),
        ({"defenses": Dim()}, "the name 'toy-dim' of Dim is taken; rename the class attribute"),
        ({"models": Linear(1.0), "jobs": 2}, "'linear' exists in this process only; use jobs=1"),
        (
            {"datasets": (np.zeros((3, 4)), np.zeros(3))},
            "the data has images of shape (3, 4); expected (n, height, width)",
        ),
        ({"defenses": "toy-dam"}, "did you mean 'toy-dim'?"),
        ({"surrogate": "toy-linear"}, "surrogate='toy-linear': only the threat 'transfer' has one; add it to threats"),
        ({"threats": "transfer"}, "give surrogate='MODEL'"),
        ({"threats": ["adaptive", "adaptive"]}, "threats: 'adaptive' is given twice; remove one"),
        ({"seed": 1, "seeds": [1, 2]}, "seed and seeds: give only one of them"),
        ({"cell_timeout": 5, "executor": "serial"}, "stopped; use executor='processes'"),
        ({"jobs": 2, "executor": "serial"}, "jobs=2: the executor 'serial' runs one task at a time"),
        ({"scheduler": "tcp://a:1", "executor": "serial"}, "'serial' has none; use executor='dask'"),
        ({"device": "cuda:77"}, "use device='cpu' or auto"),
        ({"plugin": "missing.py"}, "missing.py': no such file"),
        ({"no_plugin": "nothing"}, "no_plugin='nothing': no plugin or distribution has this name"),
    ],
)
def test_what_cannot_be_used_is_said_before_any_work(
    evaluate: Callable[..., advbench.Results], tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as raised:
        evaluate(**given)
    assert message in str(raised.value)
    assert not (tmp_path / "store").exists()


def test_options_without_effect_are_named_as_arguments(
    evaluate: Callable[..., advbench.Results], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(eot=3, score_draws=2, quiet=False)
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("eot changes nothing here: no model, and no defense under") for line in lines)
    assert "score_draws changes nothing here: no model or defense is stochastic" in lines
    assert not [line for line in lines if "--" in line]


def test_tab_completion_lists_the_public_names_alone() -> None:
    assert dir(advbench) == [
        "AdversarialImages",
        "Comparison",
        "Results",
        "__version__",
        "api",
        "matrix",
        "results",
        "testing",
    ]
    code = "import advbench; print([type(getattr(advbench, name)).__name__ for name in dir(advbench)])"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.count("'module'") == 3
    assert not [
        name
        for name in dir(advbench.Results)
        if not name.startswith("_") and not getattr(advbench.Results, name).__doc__
    ]
    with pytest.raises(AttributeError, match="has no attribute 'matrices'"):
        advbench.matrices  # noqa: B018


def test_importing_advbench_is_light() -> None:
    code = "import sys, advbench, json; print(json.dumps([m for m in ('torch', 'rich', 'numpy') if m in sys.modules]))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert json.loads(made.stdout) == []
