"""Models of RobustBench, whose package is replaced by one with the same functions, dictionary and files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from advbench.api import WeightsError
from advbench.discovery.loading import discover
from advbench.specs import resolve_one

pytestmark = pytest.mark.slow

PACKAGE = {
    "__init__.py": "",
    "model_zoo/__init__.py": """
from enum import Enum

import torch


class BenchmarkDataset(Enum):
    cifar_10 = "cifar10"
    imagenet = "imagenet"


class ThreatModel(Enum):
    Linf = "Linf"
    L2 = "L2"


def network():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))


model_dicts = {
    BenchmarkDataset.cifar_10: {
        ThreatModel.Linf: {"Author2020Word": {"model": network}, "Author2021Several": {"model": network}},
        ThreatModel.L2: {},
    },
    BenchmarkDataset.imagenet: {
        ThreatModel.Linf: {
            "Author2020Word": {},
            "Standard": {"model": network, "preprocessing": "BicubicRes256Crop224"},
            "Author2022Large": {"model": network, "preprocessing": "Crop288"},
            "Author2023Stretched": {"model": network, "preprocessing": "Res224"},
        },
    },
}
""",
    "utils.py": """
from pathlib import Path

import torch

from robustbench.model_zoo import BenchmarkDataset, ThreatModel, model_dicts


def load_model(model_name, model_dir="./models", dataset="cifar10", threat_model="Linf"):
    dataset, threat_model = BenchmarkDataset(dataset), ThreatModel(threat_model)
    network = model_dicts[dataset][threat_model][model_name]["model"]()
    path = Path(model_dir) / dataset.value / threat_model.value / f"{model_name}.pt"
    if model_name == "Standard":
        torch.nn.init.zeros_(network[1].weight)
        return network
    if "Several" in model_name:
        path = path.with_name(f"{path.name}_m0.pt")
    if not path.is_file():
        print(f"Downloading {path}")
        raise ConnectionError("drive.google.com cannot be reached")
    network.load_state_dict(torch.load(path))
    return network.eval()
""",
}
WORDS = ("matrix", "--datasets", "cifar10-20", "--attacks", "fgsm", "--models")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Installs the package; gives the folder of weights, which has those of one model."""
    for name, content in PACKAGE.items():
        path = tmp_path / "site-packages" / "robustbench" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    folder = tmp_path / "weights" / "cifar10" / "Linf"
    folder.mkdir(parents=True)
    for name in ("Author2020Word", "Author2021Several.pt_m0"):
        torch.save(network().state_dict(), folder / f"{name}.pt")
    yield tmp_path / "weights"
    for name in [name for name in sys.modules if name.partition(".")[0] == "robustbench"]:
        del sys.modules[name]


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))


def build(spec: str) -> Any:
    return resolve_one(discover(), "models", spec)


def test_a_model_is_loaded_by_robustbench(weights: Path) -> None:
    model = build(f"robustbench:name=Author2020Word,folder={weights}")
    assert model.values() == {
        "name": "Author2020Word",
        "dataset": "cifar10",
        "threat": "Linf",
        "folder": str(weights),
    }
    assert (model.image_shape, model.num_classes) == ((3, 32, 32), 10)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model.load()(images), network()(images))
    first = model.weights_digest()
    several = build(f"robustbench:name=Author2021Several,folder={weights}")
    assert torch.equal(several.load()(images), network()(images))
    assert [path.name for path in several._files] == ["Author2021Several.pt_m0.pt"]
    torch.save(network().double().state_dict(), weights / "cifar10" / "Linf" / "Author2020Word.pt")
    assert build(f"robustbench:name=Author2020Word,folder={weights}").weights_digest() != first


def test_weights_that_are_in_no_file_have_a_digest(weights: Path) -> None:
    model = build(f"robustbench:name=Standard,dataset=imagenet,folder={weights}")
    assert (model.image_shape, model.num_classes) == ((3, 224, 224), 1000)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = model.weights_digest()
        torch.manual_seed(1)
        assert build(f"robustbench:name=Standard,dataset=imagenet,folder={weights}").weights_digest() == first


@pytest.mark.parametrize(
    ("name", "length"),
    [("Author2020Word", 224), ("Standard", 224), ("Author2022Large", 288), ("Author2023Stretched", 224)],
)
def test_the_size_of_images_is_that_of_robustbenchs_preprocessing(weights: Path, name: str, length: int) -> None:
    model = build(f"robustbench:name={name},dataset=imagenet,folder={weights}")
    assert model.image_shape == (3, length, length)


def test_what_robustbench_prints_is_not_on_stdout(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (weights / "cifar10" / "Linf" / "Author2020Word.pt").unlink()
    with pytest.raises(WeightsError, match=r"ConnectionError: drive.google.com cannot be reached\); with a network it"):
        build(f"robustbench:name=Author2020Word,folder={weights}").weights_digest()
    captured = capsys.readouterr()
    assert not captured.out
    assert "Downloading" in captured.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("name=Author2020Wort", "RobustBench has no such model for dataset=cifar10,threat=Linf; did you mean"),
        ("name=Author2020Word,threat=L2", "it has it for dataset=cifar10,threat=Linf and dataset=imagenet"),
        ("name=Author2020Word,threat=L7", "threat"),
        ("threat=L2", "needs name=…: name in RobustBench's model zoo"),
    ],
)
def test_unusable_input_is_a_one_line_error(call: Callable[..., Any], weights: Path, given: str, message: str) -> None:
    called = call(*WORDS, f"robustbench:{given}")
    assert called.code == 2
    assert message in called.error_line()


def test_a_missing_package_is_a_one_line_error(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "robustbench", None)
    called = call(*WORDS, "robustbench:name=Author2020Word")
    assert called.code == 2
    assert "needs robustbench; install it with: pip install 'advbench[robustbench]'" in called.error_line()
