"""Entries of the store that are damaged, gone, or not files: the messages say what mends them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

pytestmark = pytest.mark.slow

Toy = Callable[..., tuple[Called, dict[str, Any]]]
Call = Callable[..., Called]

WITHOUT = "its adversarial images are damaged or no longer in the store"


def damage(path: Path, how: str) -> None:
    """Damages a file of the store, or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    elif how == "changed":
        path.write_bytes(path.read_bytes()[:-9])
        return
    else:
        path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "loop":
        path.symlink_to(path.name)


@pytest.mark.parametrize("how", ["changed", "deleted", "folder", "loop"])
def test_a_run_without_its_images_keeps_its_numbers_and_gets_its_samples_back(
    toy: Toy, call: Call, tmp_path: Path, how: str
) -> None:
    before = toy()[1]
    (chunk,) = (tmp_path / "store" / "adversarial").rglob("*.safetensors")
    damage(chunk, how)
    called, results = toy()
    assert "all 2 cells come from the store" in called.err
    assert results["cells"] == before["cells"]
    page = ("report", "latest", "--store", tmp_path / "store", "--output", tmp_path / "page.html")
    assert "Samples of" not in call(*page).err, "those of the page are stored"
    page = (*page, "--samples", 7)  # one more than are stored
    called = call(*page)
    assert f"{WITHOUT}; to compute them again, repeat the run's command with --rerun all" in called.err
    if how != "deleted":
        shown = call("cache", "verify", "--store", tmp_path / "store").out
        assert ("it is a folder" if how == "folder" else "repeat the run's command with --rerun all") in shown
    if how == "folder":
        called, _ = toy("--rerun", "all")
        assert called.code == 2
        assert f"{chunk} is a folder, but the store keeps a file there; move it away" in called.err
        chunk.rmdir()
    assert toy("--rerun", "all")[0].code == 0
    assert "Samples of" not in call(*page).err
    assert call("cache", "verify", "--store", tmp_path / "store").code == 0


@pytest.mark.parametrize("kind", ["cells", "clean", "adversarial", "runs"])
def test_a_link_that_leads_in_a_circle_is_replaced(toy: Toy, call: Call, tmp_path: Path, kind: str) -> None:
    before = toy()[1]
    damage(next(path for path in (tmp_path / "store" / kind).rglob("*.*") if path.is_file()), "loop")
    called, results = toy(*(() if kind in ("cells", "runs") else ("--rerun", "all")))
    assert called.code == 0
    assert [cell["robust_accuracy"] for cell in results["cells"]] == [
        cell["robust_accuracy"] for cell in before["cells"]
    ]
    assert call("cache", "verify", "--store", tmp_path / "store").code == 0


@pytest.mark.parametrize("folder", ["cells", "clean", "adversarial", "runs", "tmp", "lock", "."])
def test_a_link_in_place_of_a_folder_is_named(toy: Toy, tmp_path: Path, folder: str) -> None:
    toy()
    path = tmp_path / "store" / folder
    damage(path, "loop")
    called, _ = toy("--rerun", "all")
    if folder == "lock":  # without locks, work may be done twice, and nothing else
        assert called.code == 0
        return
    assert called.code == 2
    (line,) = [line for line in called.err.splitlines() if line.startswith("advbench matrix: error:")]
    assert f"{path} is a symbolic link that leads to no folder" in line
    assert "choose another with --store DIR" in line if folder == "." else "move it away and repeat" in line
