"""Networks as users have them: whatever they compute in and return, the numbers are those of the plain network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytestmark = pytest.mark.slow

FORMS = """
import collections, dataclasses, torch
from torch import nn

def base():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()

class Wrapped(nn.Module):
    def __init__(self, change, dtype=torch.float32):
        super().__init__()
        self.net, self.change, self.dtype = base().to(dtype), change, dtype
        self.temperature = nn.Parameter(torch.tensor(1.0, dtype=dtype))
    def forward(self, images):
        return self.change(self.net(images.to(self.dtype)) * self.temperature)

@dataclasses.dataclass
class Output:
    loss: object
    logits: torch.Tensor

Pair = collections.namedtuple("Pair", "logits aux_logits")

class InPlace(nn.Module):
    def __init__(self):
        super().__init__(); self.net = base()
    def forward(self, images):
        return self.net(images.mul_(0.5).mul_(2.0))

def in_place(): return InPlace()
def float64(): return Wrapped(lambda z: z, torch.float64)
def float16(): return Wrapped(lambda z: z, torch.float16)
def float16_cast(): return Wrapped(lambda z: z.float(), torch.float16)
def bfloat16(): return Wrapped(lambda z: z, torch.bfloat16)
def bfloat16_cast(): return Wrapped(lambda z: z.float(), torch.bfloat16)
def half(): return base().half()
def double(): return base().double()
def shifted(): return Wrapped(lambda z: z + 1e9, torch.float64)
def mapping(): return Wrapped(lambda z: {"loss": None, "logits": z})
def output(): return Wrapped(lambda z: Output(None, z))
def pair(): return Wrapped(lambda z: Pair(z, z * 0))
def first(): return Wrapped(lambda z: (z, z * 0.5))
def listed(): return Wrapped(lambda z: [z])
def more(): return Wrapped(lambda z: torch.cat([z, z.new_full((len(z), 3), -50.0)], 1))
def compiled(): return torch.compile(base(), backend="eager")
def features(): return Wrapped(lambda z: (torch.zeros(len(z), 50), z))
def scores(): return Wrapped(lambda z: {"scores": z})
def fewer(): return Wrapped(lambda z: z[:, :3])
def softmax(): return Wrapped(lambda z: z.softmax(1))
def softmax16(): return Wrapped(lambda z: z.softmax(1).bfloat16())
def onehot(): return Wrapped(lambda z: nn.functional.one_hot(z.argmax(1), 5).float())
def counts(): return Wrapped(lambda z: nn.functional.one_hot(z.argmax(1), 5))
def yes(): return Wrapped(lambda z: nn.functional.one_hot(z.argmax(1), 5).bool())
def lazy(): return nn.Sequential(nn.Flatten(), nn.LazyLinear(5))
def raises(): raise KeyError("lost")

def sized(depth, width=8, *, kind="plain"):
    assert type(depth) is int and kind in ("plain", "wide")
    torch.manual_seed(depth)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), *[nn.Linear(width, width) for _ in range(depth)],
                         nn.Linear(width, 5))
"""
ATTACKS = ("fgsm:eps=0.1", "deepfool", "noise:eps=0.3")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the networks, and images labelled as the plain one sees them, but for two of twelve."""
    (tmp_path / "forms.py").write_text(FORMS)
    defined: dict[str, Any] = {"__name__": "forms"}
    exec(FORMS.replace("@dataclasses.dataclass\n", ""), defined)
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = defined["base"]()(images).argmax(1)
    labels[:2] = 4 - labels[:2]
    labels[2] = 4  # so that there are five classes, whatever the network says
    np.savez(tmp_path / "data.npz", images=images[:, 0].numpy(), labels=labels.numpy())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def outcomes(call: Callable[..., Any], folder: Path) -> Callable[..., list[dict[str, Any]]]:
    """Runs attacks on a network of the file, or on what a whole ``build`` says; returns the cells."""

    def run(build: str, *more: object, attacks: tuple[str, ...] = ATTACKS) -> list[dict[str, Any]]:
        target = folder / "results.json"
        build = build if ".py" in build or ".pt" in build else f"forms.py:{build}"
        axes = ("--datasets", "npz:path=data.npz,classes=5", "--models", f"torch-module:build={build}")
        files = ("--store", folder / "store", "--export", target)
        called = call("matrix", *axes, "--attacks", *attacks, "--defenses", "none", *files, *more)
        assert called.code in (0, 1), called.err
        cells: list[dict[str, Any]] = json.loads(target.read_text())["cells"]
        return cells

    return run


@pytest.fixture(scope="module")
def known() -> dict[tuple[str, ...], list[tuple[float, float]]]:
    return {}


@pytest.fixture
def plain(outcomes: Callable[..., Any], known: dict[Any, Any]) -> Callable[..., list[tuple[float, float]]]:
    """The numbers of the plain network, which runs once for all tests."""

    def run(attacks: tuple[str, ...] = ATTACKS) -> list[tuple[float, float]]:
        if attacks not in known:
            known[attacks] = numbers(outcomes("base", attacks=attacks))
        return known[attacks]

    return run


def numbers(cells: list[dict[str, Any]]) -> list[tuple[float, float]]:
    assert [cell["status"] for cell in cells] == ["ok"] * len(cells), [cell["error"] for cell in cells]
    return [(cell["clean_accuracy"], cell["robust_accuracy"]) for cell in cells]


@pytest.mark.parametrize(
    "form", ["mapping", "output", "pair", "first", "listed", "more", "compiled", "double", "in_place"]
)
def test_what_stands_round_the_logits_changes_nothing(
    outcomes: Callable[..., Any], plain: Callable[..., Any], form: str
) -> None:
    assert numbers(outcomes(form)) == plain()


def test_a_network_that_says_it_knows_more_classes_is_held_to_that(
    outcomes: Callable[..., Any], plain: Callable[..., Any], call: Callable[..., Any]
) -> None:
    assert numbers(outcomes("forms.py:more,classes=8")) == plain()
    (cell,) = outcomes("forms.py:more,classes=9", attacks=("fgsm",))
    assert "returned shape (12, 8); expected (12, 9)" in cell["error"]
    axes = ("--datasets", "npz:path=data.npz,classes=5", "--models", "torch-module:build=forms.py:base,classes=3")
    called = call("matrix", *axes, "--attacks", "fgsm", "--defenses", "none")
    assert called.code == 2
    assert "knows 3 classes, npz has 5" in called.error_line()


@pytest.mark.parametrize(("form", "same"), [("float16", "float16_cast"), ("bfloat16", "bfloat16_cast")])
def test_logits_of_other_types_count_as_if_the_network_cast_them(
    outcomes: Callable[..., Any], form: str, same: str
) -> None:
    assert numbers(outcomes(form)) == numbers(outcomes(same))


@pytest.mark.parametrize("form", ["half", "float64", "shifted"])
def test_a_network_may_compute_in_another_type(
    outcomes: Callable[..., Any], plain: Callable[..., Any], form: str
) -> None:
    for ours, expected in zip(numbers(outcomes(form)), plain(), strict=True):
        assert ours == pytest.approx(expected, abs=1.01 / 12)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("features", ", 5), and either may be the logits"),
        ("scores", "returned dict with 'scores', not a tensor of logits; return only the logits, or"),
        ("fewer", "returned shape (12, 3); expected (12, 5), or more classes"),
        ("softmax", "returned probabilities, which hide gradients from attacks"),
        ("softmax16", "returned probabilities, which hide gradients from attacks"),
        ("onehot", "or use attacks that only need labels"),
        ("counts", "returned torch.int64; logits are floating-point numbers"),
    ],
)
def test_what_gradients_cannot_follow_is_err_and_says_why(
    outcomes: Callable[..., Any], form: str, message: str
) -> None:
    (cell,) = outcomes(form, attacks=("fgsm",))
    assert cell["status"] == "error"
    assert message in cell["error"]


def test_probabilities_are_seen_in_a_single_image(outcomes: Callable[..., Any]) -> None:
    (cell,) = outcomes("softmax", "--batch-size", 1, attacks=("fgsm",))
    assert "returned probabilities" in cell["error"]


@pytest.mark.parametrize("form", ["softmax", "onehot", "counts", "yes"])
def test_attacks_that_need_labels_alone_run_on_labels(
    outcomes: Callable[..., Any], plain: Callable[..., Any], form: str
) -> None:
    attacks = ("noise:eps=0.3", "foolbox:attack=HopSkipJumpAttack,steps=1", "foolbox:attack=GaussianBlurAttack")
    assert numbers(outcomes(form, attacks=attacks)) == plain(attacks)


def test_scores_are_more_than_labels(outcomes: Callable[..., Any]) -> None:
    (cell,) = outcomes("onehot", attacks=("square:queries=2",))
    assert "returned probabilities" in cell["error"]


def test_no_attack_asks_about_no_image(outcomes: Callable[..., Any], folder: Path) -> None:
    source = "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    source += "        torch.manual_seed(3)\n        self.l = torch.nn.Linear(64, 5)\n"
    source += "    def forward(self, x):\n        return self.l(x.view(x.size(0), -1))\n"
    (folder / "view.py").write_text(source)
    attacks = ("cw:steps=5", "fmn:steps=5", "ddn:steps=5", "deepfool", "fab-t:steps=2", "square:queries=5")
    numbers(outcomes("view.py:Net", "--batch-size", 1, attacks=attacks))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("how", ["script", "trace", "freeze"])
def test_a_script_module_is_a_network(
    outcomes: Callable[..., Any], plain: Callable[..., Any], folder: Path, how: str
) -> None:
    defined: dict[str, Any] = {"__name__": "forms"}
    exec(FORMS.replace("@dataclasses.dataclass\n", ""), defined)
    network = defined["base"]()
    made = torch.jit.trace(network, torch.rand(1, 1, 8, 8)) if how == "trace" else torch.jit.script(network)
    (torch.jit.freeze(made) if how == "freeze" else made).save(folder / "whole.pt")
    assert numbers(outcomes("whole.pt")) == plain()


def test_arguments_reach_what_builds(outcomes: Callable[..., Any], call: Callable[..., Any], folder: Path) -> None:
    by_place, by_name = (
        outcomes(f"forms.py:sized,args={args}", attacks=("fgsm",)) for args in ("2;16;kind=wide", "depth=2;width=16")
    )
    assert numbers(by_place) == numbers(by_name)
    assert ",args=2;16;kind=wide," in by_place[0]["model"]
    swept = outcomes("forms.py:sized,args={1,2}", attacks=("fgsm",))
    assert len(swept) == 2
    assert swept[0]["model"] != swept[1]["model"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("forms.py:sized", "needs args=… (missing a required argument: 'depth'); write args=3;width=16"),
        ("forms.py:sized,args=1;deep=2", "does not take args=1;deep=2 (got an unexpected keyword argument 'deep')"),
        ("forms.py:sized,args=2.5", "build=forms.py:sized with args=2.5 raises AssertionError"),
        ("forms.py:sized,args=1;;2", "has no value; write args=depth=3;width=16"),
        ("forms.py:sized,args=depth=1;2", "'2' has no name but follows one that has"),
        ("forms.py:sized,args=depth=1;depth=2", "depth is given twice"),
        ("forms.py:raises", "build=forms.py:raises raises KeyError: 'lost'; fix that"),
        ("forms.py:lazy", "1.weight belongs to a lazy layer that has no shape yet"),
        ("nowhere.pt", "build=nowhere.pt: no such file"),
        ("state.pt", "build=state.pt is no file of torch.jit.save"),
        ("state.pt,args=3", "state.pt is already a network and takes no arguments"),
    ],
)
def test_what_cannot_be_built_is_one_line(call: Callable[..., Any], folder: Path, given: str, message: str) -> None:
    torch.save({"weight": torch.zeros(3)}, folder / "state.pt")
    axes = ("--datasets", "npz:path=data.npz", "--models", f"torch-module:build={given}", "--attacks", "fgsm")
    called = call("matrix", *axes, "--defenses", "none", "--store", folder / "store")
    assert called.code == 2
    assert message in called.error_line()


def weights_in(how: str, state: dict[str, torch.Tensor]) -> Any:
    """A file's content in which the weights stand in another form."""

    def named(before: str) -> dict[str, torch.Tensor]:
        return {before + name: tensor for name, tensor in state.items()}

    return {
        "compiled": named("_orig_mod."),
        "compiled and parallel": named("module._orig_mod."),
        "a part of a larger module": named("model.net."),
        "averaged": {"n_averaged": torch.tensor(3), **named("module.")},
        "EMA beside an optimiser": {"ema": named("net."), "optimizer": {"state": {0: torch.zeros(3)}}, "epoch": 3},
        "Lightning": {"state_dict": {**named("model."), "metric.total": torch.zeros(1)}, "hyper_parameters": {"lr": 1}},
        "nested": {"model": {"state_dict": state}},
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "compiled",
        "compiled and parallel",
        "a part of a larger module",
        "averaged",
        "EMA beside an optimiser",
        "Lightning",
        "nested",
    ],
)
@pytest.mark.parametrize("build", ["base", "compiled"])
def test_checkpoints_of_wrapped_networks_fit(outcomes: Callable[..., Any], folder: Path, how: str, build: str) -> None:
    defined: dict[str, Any] = {"__name__": "forms"}
    exec(FORMS.replace("@dataclasses.dataclass\n", ""), defined)
    network: nn.Module = defined["base"]()
    with torch.no_grad():
        network[4].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 1e3]))  # type: ignore[index, union-attr, operator]
    torch.save(weights_in(how, dict(network.state_dict())), folder / "w.pt")
    labels = np.load(folder / "data.npz")["labels"]
    (cell,) = outcomes(f"forms.py:{build},weights=w.pt", attacks=("noise",))
    assert cell["clean_accuracy"] == pytest.approx((labels == 4).mean())
