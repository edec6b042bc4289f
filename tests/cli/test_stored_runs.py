"""Stored runs are shown from another folder, later, with their own plugin files and the files that their specs name."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow

TOY = Path(__file__).parents[1] / "toy_plugin.py"

NET = '''
import torch


class Net(torch.nn.Module):
    """Always answers class 0, or whatever is asked for."""

    def __init__(self, answer=0):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.nn.functional.one_hot(torch.tensor(answer), 12) * 9.0)

    def forward(self, images):
        return self.bias + 0 * images.flatten(1).sum(dim=1, keepdim=True)
'''

Page = Callable[..., tuple[Any, list[dict[str, Any]]]]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the run, with a plugin file and a network."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copy(TOY, folder / "toy.py")
    (folder / "net.py").write_text(NET)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(call: Callable[..., Any], tmp_path: Path, work: Path) -> Callable[..., None]:
    """Runs a small matrix in that folder; its store lacks samples, as those of earlier versions."""

    def do(*flags: object, attacks: Sequence[str] = ("toy-sign",), models: Sequence[str] = ("toy-linear",)) -> None:
        axes = ("--datasets", "toy", "--models", *models, "--attacks", *attacks, "--defenses", "toy-keep", "toy-dim")
        called = call("matrix", *axes, "--plugin", "toy.py", "--store", tmp_path / "store", *flags)
        assert called.code == 0, called.err
        shutil.rmtree(tmp_path / "store" / "examples")

    return do


@pytest.fixture
def page(call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    """The page of the latest run, written in another folder, and its cells."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def make(*flags: object) -> tuple[Any, list[dict[str, Any]]]:
        monkeypatch.chdir(elsewhere)
        called = call("report", "latest", "--store", "../store", "--output", "page.html", *flags)
        assert called.code == 0, called.err
        data = re.search(r'id="data">(.*?)</script>', (elsewhere / "page.html").read_text(), re.DOTALL)
        assert data is not None
        return called, json.loads(data[1])["cells"]

    return make


def samples(cells: Sequence[dict[str, Any]]) -> list[int]:
    return [len(cell.get("samples", {}).get("rows", [])) for cell in cells]


def test_a_week_later_in_another_folder_the_page_has_its_samples(run: Callable[..., None], page: Page) -> None:
    run()
    week = 7 * 24 * 3600
    for file in (Path("toy.py"), Path("net.py")):
        os.utime(file, (file.stat().st_atime + week, file.stat().st_mtime + week))
    called, cells = page()
    assert called.err == "wrote page.html\n"
    assert samples(cells) == [6, 6]


def test_figures_and_comparisons_work_there_too(
    run: Callable[..., None], call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    run()
    monkeypatch.chdir(tmp_path)
    called = call("figures", "--store", "store", "--output", "drawn", "--samples", 2, "--only", "attacks")
    assert called.code == 0
    assert [path.name for path in Path("drawn").iterdir()] == ["attacks-toy-toy-linear.png"]
    called = call("compare", "--store", "store", "--defenses", "toy-keep", "toy-dim")
    assert called.code == 0, called.err
    assert "toy-sign" in called.out


def test_a_plugin_file_that_has_moved_or_changed_is_asked_for(run: Callable[..., None], page: Page, work: Path) -> None:
    run()
    moved = (work / "toy.py").rename(work / "renamed.py")
    called, cells = page()
    assert samples(cells) == [0, 0]
    assert f"the run's plugin file {work / 'toy.py'} is gone; give its new path with --plugin FILE" in called.err
    called, cells = page("--plugin", moved)
    assert called.err == "wrote page.html\n"
    assert samples(cells) == [6, 6]

    changed = moved.rename(work / "toy.py")
    changed.write_text(changed.read_text() + "\n# other code\n")
    called, cells = page()
    assert samples(cells) == [0, 0]
    assert f"{changed} has changed since the run; to use it as it is now, add --plugin {changed}" in called.err
    called, cells = page("--plugin", changed)
    assert called.err.splitlines()[1:] == ["wrote page.html"]
    assert samples(cells) == [6, 6]


CHANGED = (
    "The samples are of the components as they are now, and the numbers are those of the run. "
    "Changed since the run: {}.\n"
)


@pytest.mark.parametrize("what", ["toy.py", "strength.py"])
def test_samples_of_a_changed_plugin_file_have_a_note(
    run: Callable[..., None], page: Page, call: Callable[..., Any], work: Path, tmp_path: Path, what: str
) -> None:
    (work / "strength.py").write_text("STRENGTH = 1\n")
    lines = (work / "toy.py").read_text().replace("* self.factor +", "* self.factor * STRENGTH +")
    (work / "toy.py").write_text(lines.replace("import torch\n", "import torch\nfrom strength import STRENGTH\n", 1))
    run(models=["toy-linear"])
    sys.modules.pop("strength")
    assert page("--plugin", work / "toy.py")[0].err == "wrote page.html\n"
    (work / what).write_text((work / what).read_text() + "\n# other code\n")
    sys.modules.pop("strength")
    called, cells = page("--plugin", work / "toy.py")
    assert samples(cells) == [6, 6]
    names = ("dataset 'toy'", "model 'toy-linear'", "defense 'toy-keep'", "defense 'toy-dim'")
    note = CHANGED.format(f"{what.removesuffix('.py') if what == 'strength.py' else what} ({', '.join(names)})")
    assert called.err == f"{note}wrote page.html\n"
    assert note.strip() in html.unescape((tmp_path / "elsewhere" / "page.html").read_text())
    pytest.importorskip("matplotlib")
    flags = ("--plugin", work / "toy.py", "--samples", 2, "--only", "attacks")
    assert note in call("figures", "--store", tmp_path / "store", "--output", "drawn", *flags).err


def test_samples_of_a_defense_with_other_weights_and_of_other_data_have_a_note(
    run: Callable[..., None], page: Page, work: Path
) -> None:
    source = (work / "toy.py").read_text()
    keyed = "    def apply(self, images, rng):\n        return (images"
    for before, after in (
        (keyed, f"    def weights_digest(self):\n        return Path('{work}/weights').read_text()\n\n{keyed}"),
        ("manual_seed(7)", f"manual_seed(int(Path('{work}/data').read_text()))"),
    ):
        assert before in source
        source = source.replace(before, after, 1)
    (work / "toy.py").write_text(source)
    (work / "weights").write_text("1")
    (work / "data").write_text("7")
    run()
    assert page()[0].err == "wrote page.html\n"
    (work / "weights").write_text("2")
    assert page()[0].err.startswith(CHANGED.format("weights (defense 'toy-dim')"))
    (work / "data").write_text("8")
    assert page()[0].err.startswith(CHANGED.format("data (dataset 'toy'); weights (defense 'toy-dim')"))


def test_paths_in_specs_start_at_the_folder_of_the_run_or_at_the_current_one(
    run: Callable[..., None], page: Page, work: Path, tmp_path: Path
) -> None:
    register_torch_module(work)
    run("--plugin", "models.py", models=["torch-module:build=net.py:Net,args=1"])
    called, cells = page()
    assert called.err == "wrote page.html\n"
    assert samples(cells) == [6, 6]
    (work / "net.py").rename(tmp_path / "elsewhere" / "net.py")
    _, cells = page()
    assert samples(cells) == [6, 6]


@pytest.mark.parametrize("gone", ["folder", "net.py", "net.pt"])
def test_a_file_of_a_spec_that_has_moved_is_named_and_not_the_folder_of_the_command(
    run: Callable[..., None], page: Page, work: Path, tmp_path: Path, gone: str
) -> None:
    register_torch_module(work)
    torch.save({"bias": torch.ones(12)}, work / "net.pt")
    run("--plugin", "models.py", models=["torch-module:build=net.py:Net,weights=net.pt"])
    if gone == "folder":
        shutil.copytree(work, tmp_path / "work2")
        for name in ("net.py", "net.pt"):
            (work / name).unlink()
    else:
        (work / gone).unlink()
    name = "net.py" if gone == "folder" else gone
    message = f"{name} is neither in the run's folder {work} nor here; run this command in the folder that has it\n"
    called, cells = page()
    assert samples(cells) == [0, 0]
    assert f"are not shown: {message}" in called.err
    assert "elsewhere" not in called.err
    if gone == "net.pt":
        torch.save({"bias": torch.ones(12)}, tmp_path / "elsewhere" / "net.pt")
        message = (
            f"net.py is in the run's folder {work}, and other files of the run are here; copy them into one folder"
        )
        assert message in page()[0].err
        shutil.copy(work / "net.py", tmp_path / "elsewhere")
        assert samples(page()[1]) == [6, 6]


def test_a_file_of_a_spec_with_an_absolute_path_that_is_gone_is_named(
    run: Callable[..., None], page: Page, work: Path
) -> None:
    register_torch_module(work)
    run("--plugin", "models.py", models=[f"torch-module:build={work}/net.py:Net,args=1"])
    (work / "net.py").unlink()
    assert f"are not shown: {work}/net.py no longer exists; put it back to see these samples\n" in page()[0].err


def test_a_network_that_has_changed_since_the_run_has_no_samples(
    run: Callable[..., None], page: Page, work: Path
) -> None:
    register_torch_module(work)
    run("--plugin", "models.py", models=["torch-module:build=net.py:Net,args=1"])
    changed = "model 'torch-module' is not that of the run: net.py{} changed; repeat the run's command"
    (work / "net.py").write_text(NET + "# other code")
    called, cells = page()
    assert samples(cells) == [0, 0]
    assert changed.format("") in called.err
    (work / "net.py").write_text(NET.replace("9.0", "8.0"))
    assert changed.format(" and its weights") in page()[0].err
    (work / "net.py").write_text(NET)
    assert samples(page()[1]) == [6, 6]


def register_torch_module(folder: Path) -> None:
    """A plugin file with the built-in model alone."""
    (folder / "models.py").write_text(
        "from advbench.api import hookimpl\nfrom advbench_models.torch_module import TorchModule\n\n\n"
        "@hookimpl\ndef register_models(register):\n    register(TorchModule)\n"
    )


def test_a_model_that_is_always_wrong_has_samples(run: Callable[..., None], page: Page, work: Path) -> None:
    register_torch_module(work)
    run("--plugin", "models.py", models=["torch-module:build=net.py:Net,args=11"])
    _, cells = page()
    assert samples(cells) == [6, 6]
    rows = cells[0]["samples"]["rows"]
    assert all(row["clean"][1] == 11 != row["label"] for row in rows)


def test_an_attack_that_fools_nobody_has_samples(run: Callable[..., None], page: Page) -> None:
    run(attacks=["toy-sign:eps=0"])
    _, cells = page()
    assert samples(cells) == [6, 6]
    assert all(row["clean"] == row["adversarial"] for row in cells[0]["samples"]["rows"])
