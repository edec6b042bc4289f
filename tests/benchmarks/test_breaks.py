"""``python -m benchmarks.breaks.NAME``: approximations have gradients, and results are scored on other draws."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.breaks.resize_pad import bilinear

from advbench.api import Defense, SampleRandom, save_weights
from advbench.discovery.loading import discover
from advbench.specs import resolve_one
from advbench_defenses.generative.denoiser_network import DenoiserNetwork
from advbench_defenses.transformations.resize_pad import ResizeAndPad

pytestmark = pytest.mark.slow

NAMES = (
    *("bit-depth", "median", "non-local-means", "bilateral", "wavelet", "resize-pad", "shield", "quilting"),
    *("crop-ensemble", "denoiser"),
)


def module_of(name: str) -> object:
    return importlib.import_module(f"benchmarks.breaks.{name.replace('-', '_')}")


@pytest.fixture
def images() -> torch.Tensor:
    coarse = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear").clamp(0.05, 0.95)


@pytest.mark.parametrize("name", NAMES)
def test_each_has_three_approximations_and_all_have_a_gradient(name: str, images: torch.Tensor, tmp_path: Path) -> None:
    spec, module = name, module_of(name)
    if name == "denoiser":
        file = tmp_path / "denoiser.safetensors"
        save_weights(file, DenoiserNetwork(3).state_dict(), {})
        spec = f"denoiser:weights={file}"
    defense = resolve_one(discover(), "defenses", spec)
    assert isinstance(defense, Defense)
    views, approximations = getattr(module, "VIEWS", {}), getattr(module, "APPROXIMATIONS", {})
    assert len(views) + len(approximations) >= 3
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))

    def streams() -> SampleRandom:
        return SampleRandom(0, "defense", range(2))

    with torch.no_grad():
        output = None if views else defense.apply(images, streams())
    for key, approximation in {**views, **approximations}.items():
        leaf = images.clone().requires_grad_()
        given = approximation(defense, network if views else leaf, leaf if views else output, streams())
        (gradient,) = torch.autograd.grad((given * torch.rand_like(given)).sum(), leaf)
        assert gradient.isfinite().all(), key
        assert gradient.flatten(1).any(dim=1).all(), key


def test_the_bilinear_approximation_puts_images_where_the_defense_does(images: torch.Tensor) -> None:
    defense = ResizeAndPad(smallest=0.6, largest=0.9)
    output = defense.apply(images, SampleRandom(0, "defense", range(2)))
    smooth = bilinear(defense, images, output, SampleRandom(0, "defense", range(2)))
    assert torch.equal(smooth > 0, output > 0)
    assert (smooth - output).abs().mean() < 0.03


@pytest.mark.parametrize(("name", "approximations"), [("median", 4), ("resize-pad", 3)])
def test_a_transformation_is_broken(
    name: str, approximations: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = [
        "--model",
        "mnist-cnn",
        "--dataset",
        "mnist-20",
        "--eps",
        "0.3",
        "--limit",
        "4",
        "--steps",
        "15",
        "--every",
    ]
    monkeypatch.setattr(
        sys, "argv", ["break", *words, "--every", "--draws", "3", "--output", str(tmp_path), "--device", "cpu"]
    )
    module = module_of(name)
    module.main(name, None, approximations=module.APPROXIMATIONS)  # type: ignore[attr-defined]
    printed = capsys.readouterr().out
    figures = re.search(r"Accuracy without an attack (\S+) %, under attack (\S+) %", printed)
    assert figures is not None
    assert float(figures[1]) > 80
    assert float(figures[2]) < 10
    assert "Without the defense, PGD leaves 0.0 %" in printed
    assert printed.count("| pgd ") == approximations
    assert ("fresh draws, which were not used" in printed) == (name == "resize-pad")
    assert (tmp_path / "report.md").read_text("utf-8").endswith(printed.strip() + "\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--defense", "jpeg"], "--defense: 'jpeg' is not median"),
        (["--defense", "median:size=0"], "size=0: must be a whole number from 1 to 15"),
        (["--eps", "much"], "argument --eps: 'much': must be a number above 0, such as 8/255"),
        (["--eps", "1/0"], "argument --eps: '1/0': must be a number above 0, such as 8/255"),
        (["--limit", "0"], "argument --limit: '0': must be a whole number of at least 1"),
        (["--dataset", "no-such"], "no-such"),
        (["--dataset", "mnist-20"], "cifar10-densenet takes images of (3, 32, 32), mnist-20 has (1, 28, 28)"),
    ],
)
def test_bad_input_is_a_usage_error(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["break", *words])
    module = module_of("median")
    with pytest.raises(SystemExit) as left:
        module.main("median", None, approximations=module.APPROXIMATIONS)  # type: ignore[attr-defined]
    assert left.value.code == 2
    assert message in capsys.readouterr().err
