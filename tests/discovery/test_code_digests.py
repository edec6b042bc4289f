"""Code digests cover what a component imports and nothing else, unless imports are only known at run time."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from advbench.discovery.identity import clear_digest_cache, code_digests
from advbench.discovery.imports import imports_of
from advbench.discovery.loading import discover
from advbench.errors import UsageError

PACKAGE = {
    "__init__.py": '"""A package."""\n',
    "plugin.py": "from keyed_package.one import One\nfrom keyed_package.other import Other\n",
    "base.py": "from advbench.api import Defense\n",
    "one.py": (
        "from dataclasses import dataclass\nfrom .base import Defense\nfrom . import near\n"
        "@dataclass(frozen=True)\nclass One(Defense):\n    name = 'one'\n"
        "    def apply(self, images, rng):\n        from keyed_package.lazy import f\n        return f(images)\n"
    ),
    "near.py": "import keyed_package.far as far\n",
    "far.py": "X = 1\n",
    "lazy.py": "import keyed_beside\ndef f(x): return x\n",
    "other.py": "class Other: pass\n",
    "table.json": "1",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with several modules, and a module beside it, on the import path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = tmp_path / "keyed_package"
    folder.mkdir()
    for name, text in PACKAGE.items():
        (folder / name).write_text(text)
    (tmp_path / "keyed_beside.py").write_text("Y = 1\n")
    yield folder
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.startswith("keyed_")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def digests() -> dict[str, str]:
    """The digests of the files on disk, as a new process would compute them."""
    forget()
    clear_digest_cache()
    importlib.import_module("keyed_package.plugin")
    return code_digests(importlib.import_module("keyed_package.one").One)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("other.py", False),
        ("plugin.py", False),
        *((name, True) for name in ("__init__.py", "base.py", "one.py", "near.py", "far.py", "lazy.py", "table.json")),
        ("../keyed_beside.py", True),
    ],
)
def test_an_edit_changes_only_the_digests_of_components_that_import_the_file(
    package: Path, name: str, changes: bool
) -> None:
    before = digests()
    assert list(before) == ["keyed_beside", "keyed_package"]
    (package / name).write_text((package / name).read_text() + ("2" if name == "table.json" else "# edited\n"))
    assert (digests() != before) is changes


@pytest.mark.parametrize(
    "line",
    [
        "import importlib; importlib.import_module('keyed_' + 'package.other')",
        "from importlib import import_module as get; get(name)",
        "exec('import os')",
        "import pkgutil; pkgutil.walk_packages([])",
        "from keyed_package import *",
        "load = __import__",
        "def broken(:",
    ],
)
def test_dynamic_imports_add_the_whole_package(package: Path, line: str) -> None:
    (package / "far.py").write_text(f"def never():\n    {line}\n" if "import *" not in line else line)
    before = None
    if "broken" in line:
        (package / "near.py").write_text("def never():\n    import keyed_package.far\n")
    for text in ("class Other: pass\n", "class Other: pass  # edited\n"):
        (package / "other.py").write_text(text)
        assert digests() != before
        before = digests()


def test_import_module_with_a_constant_is_followed(package: Path) -> None:
    (package / "far.py").write_text("import importlib\ndef f(): importlib.import_module('.lazy', __package__)\n")
    before = digests()
    (package / "other.py").write_text("# edited\n")
    (package / "plugin.py").write_text("")
    assert digests() == before
    assert "keyed_package.lazy" in imports_of((package / "far.py").read_bytes(), "keyed_package").names


def test_built_in_components_have_digests_of_their_own() -> None:
    registry = discover()
    by_name = {name: code_digests(registry.get("attacks", name).component) for name in ("fgsm", "square", "fab-t")}
    assert {tuple(packages) for packages in by_name.values()} == {("advbench_attacks",)}
    assert len({packages["advbench_attacks"] for packages in by_name.values()}) == 3


def test_a_file_changed_after_its_import_is_an_error(package: Path) -> None:
    digests()
    (package / "far.py").write_text("X = 2\n")
    component = importlib.import_module("keyed_package.one").One
    code_digests(component)  # a run in progress is not affected
    clear_digest_cache()
    with pytest.raises(
        UsageError, match=r"far\.py differs from the code that this process has imported as keyed_package\.far"
    ):
        code_digests(component)
    importlib.reload(sys.modules["keyed_package.far"])
    clear_digest_cache()
    assert code_digests(component) == digests()


def test_outdated_bytecode_is_detected(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    lazy = package / "lazy.py"
    for number in (1, 2):
        lazy.write_text(f"def f(x): return x * {number}\n")
        os.utime(lazy, (1e9, 1e9))
        forget()
        importlib.import_module("keyed_package.lazy")
    clear_digest_cache()
    with pytest.raises(UsageError, match=r"lazy\.py differs from the code that this process has imported"):
        code_digests(importlib.import_module("keyed_package.one").One)


def test_a_files_digest_does_not_depend_on_its_folder(tmp_path: Path, plugin_source: Callable[[str], str]) -> None:
    computed = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "own.py"
        file.write_text(plugin_source("own"))
        computed.append(code_digests(discover(files=[file]).get("defenses", "own").component))
    assert computed[0] == computed[1]
    assert list(computed[0]) == ["own.py"]


@pytest.fixture
def plugin_source() -> Callable[[str], str]:
    """The source of a plugin with one defense, by the name of the defense."""
    return lambda name: (
        "from dataclasses import dataclass\nfrom advbench.api import Defense, hookimpl\n"
        f"@dataclass(frozen=True)\nclass Own(Defense):\n    name = '{name}'\n"
        "    def apply(self, images, rng): return images\n"
        "@hookimpl\ndef register_defenses(register): register(Own)\n"
    )
