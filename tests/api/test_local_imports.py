"""A user's file imports the modules in its folder, as when Python runs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from advbench.api import import_file

FILE = """
from helper import NAME
import package.part
from folder.deep import DEEP

def later():
    import lazy
    from helper import NAME as again
    import importlib
    return lazy.NAME, again, importlib.import_module("dynamic").NAME
"""


def write_files(folder: Path, name: str) -> Path:
    for path, text in {
        "net.py": FILE,
        "helper.py": "from inner import NAME",
        "inner.py": f"NAME = {name!r}",
        "lazy.py": f"NAME = {name!r}",
        "dynamic.py": f"NAME = {name!r}",
        "package/__init__.py": "from . import other",
        "package/part.py": "",
        "package/other.py": f"NAME = {name!r}",
        "folder/deep.py": f"DEEP = {name!r}",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder / "net.py"


def names_in(module: Any) -> set[str]:
    return {module.NAME, module.DEEP, module.package.other.NAME, *module.later()}


def test_each_file_imports_from_its_own_folder(tmp_path: Path) -> None:
    one, two = (write_files(tmp_path / name, name) for name in ("one", "two"))
    first = import_file(one)
    assert names_in(first) == {"one"}
    second = import_file(two)
    assert names_in(second) == {"two"}
    assert first.later()[:2] == ("one", "one")
    assert second.later() == ("two", "two", "two")
    assert names_in(import_file(one)) == {"one"}


@pytest.mark.parametrize("name", ["inner.py", "lazy.py", "dynamic.py", "package/other.py", "folder/deep.py"])
def test_a_changed_module_is_imported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = write_files(tmp_path, "aaa")
    assert names_in(import_file(file)) == {"aaa"}
    (tmp_path / name).write_text((tmp_path / name).read_text().replace("aaa", "bbb"))
    assert names_in(import_file(file)) == {"aaa", "bbb"}
    assert not list(tmp_path.rglob("__pycache__")), "no bytecode is written beside the user's files"


def test_the_standard_library_and_loaded_libraries_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('not this one')")
    (tmp_path / "pluggy.py").write_text("IN_FOLDER = True")
    file = tmp_path / "net.py"
    file.write_text("import json\nimport pluggy\n")
    before = sys.modules["pluggy"]
    module = import_file(file)
    assert module.json is sys.modules["json"]
    assert module.pluggy.IN_FOLDER
    assert sys.modules["pluggy"] is before
