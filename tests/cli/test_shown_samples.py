"""The samples of a page are stored when cells are scored: reports need neither plugins, nor data, nor torch."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import advbench
from advbench.analysis import SHOWN_SAMPLES
from advbench.cli.report_command import add_arguments

PLUGIN = '''
import torch

from advbench.api import Attack, Defense, Model, hookimpl


class Shaken(Defense):
    """Adds random numbers."""

    name = "shaken"
    stochastic = True

    def apply(self, images, rng):
        return (images + 0.2 * rng.normal(*images.shape[1:])).clamp(0, 1)


class Quarter(Defense):
    """A corner of the images."""

    name = "quarter"
    differentiable = True

    def output_shape(self, image_shape):
        return (image_shape[0], 2, 2)

    def apply(self, images, rng):
        return images[:, :, :2, :2]


class Lighter(Attack):
    """Adds a constant."""

    name = "lighter"
    access = "nothing"
    norm = None

    def run(self, model, images, labels, rng):
        return (images + 0.1).clamp(0, 1)


class Picky(torch.nn.Module):
    def forward(self, images):
        if images.shape[2] > 2:
            raise ValueError("too large")
        mean = images.flatten(1).mean(dim=1)
        return torch.stack([mean, 0.5 + 0 * mean, 0 * mean], 1)


class Small(Model):
    """Takes quarters alone."""

    name = "small"
    image_shape = (1, 2, 2)
    num_classes = 3

    def weights_digest(self):
        return "0" * 64

    def load(self):
        return Picky()


@hookimpl
def register_defenses(register):
    register(Shaken)
    register(Quarter)


@hookimpl
def register_attacks(register):
    register(Lighter)


@hookimpl
def register_models(register):
    register(Small)
'''

TOY = Path(__file__).parents[1] / "toy_plugin.py"

Call = Callable[..., Any]


def cells_of(page: Path) -> list[dict[str, Any]]:
    """The cells of a page, with images in place of their numbers."""
    data = json.loads(page.read_text().partition('id="data">')[2].partition("</script>")[0])
    for cell in data["cells"]:
        for row in cell.get("samples", {}).get("rows", []):
            for name in ("clean", "adversarial", "defended"):
                row[name][0] = data["images"][row[name][0]]
            row["difference"] = data["images"][row["difference"]]
    cells: list[dict[str, Any]] = data["cells"]
    return cells


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "shaking.py"
    file.write_text(PLUGIN)
    return file


@pytest.mark.parametrize("flags", [(), ("--batch-size", "3", "--score-draws", "2"), ("--threats", "adaptive")])
def test_stored_samples_are_those_that_are_computed_again(
    toy: Call, call: Call, plugin: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    defenses = ("toy-keep", "toy-dim", "shaken")
    assert toy("--plugin", plugin, *flags, defenses=defenses)[0].code == 0
    pages = []
    for name in ("stored", "computed"):
        words = ("report", "latest", "--store", tmp_path / "store", "--output", tmp_path / f"{name}.html")
        assert call(*words, "--plugin", plugin, "--plugin", TOY).err == f"wrote {tmp_path / name}.html\n"
        pages.append(cells_of(tmp_path / f"{name}.html"))
        shutil.rmtree(tmp_path / "store" / "examples", ignore_errors=True)
    assert pages[0] == pages[1]
    assert [len(cell["samples"]["rows"]) for cell in pages[0]] == [6, 6, 6]


def test_a_report_needs_no_plugin_and_no_torch(toy: Call, tmp_path: Path, plugin: Path) -> None:
    toy("--plugin", plugin, defenses=("shaken",))
    plugin.unlink()
    words = ["report", "--store", str(tmp_path / "store"), "--output", str(tmp_path / "page.html"), "--samples", "4"]
    code = f"import sys; from advbench.cli.main import main; print(main({words}), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "0 False\n", done.stderr
    (cell,) = cells_of(tmp_path / "page.html")
    assert len(cell["samples"]["rows"]) == 4
    assert len({row["label"] for row in cell["samples"]["rows"]}) == 3


def test_more_samples_than_are_stored_are_computed(toy: Call, call: Call, tmp_path: Path) -> None:
    toy()
    words = ("report", "--store", tmp_path / "store", "--output", tmp_path / "page.html", "--samples", 9)
    assert call(*words).code == 0
    assert [len(cell["samples"]["rows"]) for cell in cells_of(tmp_path / "page.html")] == [9, 9]


def test_cells_of_fewer_samples_have_all(toy: Call, call: Call, tmp_path: Path, plugin: Path) -> None:
    toy("--plugin", plugin, "--limit", 3, defenses=("shaken",))
    plugin.unlink()
    assert call("report", "--store", tmp_path / "store", "--output", tmp_path / "page.html").code == 0
    assert [len(cell["samples"]["rows"]) for cell in cells_of(tmp_path / "page.html")] == [3]


def test_a_model_that_needs_the_defense_is_scored_without_samples(toy: Call, tmp_path: Path, plugin: Path) -> None:
    _, results = toy("--plugin", plugin, "--threats", "adaptive", models=("small",), defenses=("quarter",))
    (cell,) = results["cells"]
    assert cell["status"] == "ok", cell["error"]
    assert not (tmp_path / "store" / "examples").exists()


def test_a_function_that_gives_labels_is_not_asked_for_samples(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plugin: Path
) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")

    def bright(images: Any) -> Any:
        return (images.mean(axis=(1, 2, 3)) > 0.5).astype("int64")

    bright.gives = "labels"  # type: ignore[attr-defined]
    bright.classes = 3  # type: ignore[attr-defined]
    results = advbench.matrix(
        datasets="toy",
        models=bright,
        attacks="lighter",
        defenses=["toy-keep", "toy-dim"],
        plugin=[TOY, plugin],
        store=tmp_path / "store",
        quiet=True,
    )
    assert [cell["status"] for cell in results.data["cells"]] == ["ok", "ok"]
    assert not (tmp_path / "store" / "examples").exists()


def test_removing_a_run_removes_its_samples(toy: Call, call: Call, tmp_path: Path) -> None:
    toy()
    store = tmp_path / "store"
    assert len(list((store / "examples").glob("*/*.json"))) == 2
    assert "samples on pages" in call("cache", "ls", "--store", store).out
    called = call("cache", "rm", "latest", "--store", store)
    assert called.code == 0, called.err
    assert not list((store / "examples").glob("*/*.json"))


def test_a_report_shows_as_many_samples_as_are_stored() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert parser.parse_args([]).samples == SHOWN_SAMPLES
