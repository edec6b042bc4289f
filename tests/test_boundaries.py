"""The house's walls: who may import whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HARNESS = ROOT / "harness" / "advbench"
STUDIES = "advbench_studies"
PLUGINS = sorted((ROOT / "plugins").glob("*/advbench_*"))
FLOORS = {
    "_lazy": 0,
    "errors": 0,
    "exits": 0,
    "streams": 0,
    "api": 1,
    "executors": 1,
    "store": 2,
    "discovery": 2,
    "analysis": 3,
    "specs": 3,
    "report": 4,
    "evaluation": 4,
    "scaffold": 1,
    "testing": 5,
    "cli": 6,
    "live": 7,
    "results": 8,
    "__main__": 7,
    "__init__": 8,
}
SAME_FLOOR_APART = {("executors", "api"), ("analysis", "specs")}
"""Pairs of one floor of which the first may import the second."""


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            yield node.module


def part_of(file: Path) -> str:
    return file.relative_to(HARNESS).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", sorted(HARNESS.rglob("*.py")), ids=lambda file: str(file.relative_to(HARNESS)))
def test_the_core_imports_downwards_and_no_plugin(file: Path) -> None:
    here = part_of(file)
    for module in imports(file):
        assert not module.startswith("advbench_"), f"{file} imports the plugin {module}"
        if not module.startswith("advbench."):
            continue
        there = module.split(".")[1]
        allowed = there == here or FLOORS[there] < FLOORS[here] or (here, there) in SAME_FLOOR_APART
        assert allowed, f"{here} (floor {FLOORS[here]}) imports {there} (floor {FLOORS[there]}) in {file.name}"


@pytest.mark.parametrize("package", PLUGINS, ids=lambda package: package.name)
def test_a_plugin_imports_the_api_alone_and_a_study_results_too(package: Path) -> None:
    allowed = {"advbench.api", "advbench.results"} if package.name == STUDIES else {"advbench.api"}
    for file in package.rglob("*.py"):
        for module in imports(file):
            if module == "advbench" or module.startswith("advbench."):
                assert module in allowed, f"{file.name} imports {module}; it may import {' and '.join(sorted(allowed))}"
            if module.startswith("advbench_"):
                assert module.partition(".")[0] == package.name, f"{file.name} imports another plugin, {module}"


@pytest.mark.parametrize("package", ["session", "live"])
def test_what_the_command_line_and_python_share_imports_no_command(package: str) -> None:
    for file in (HARNESS / package).rglob("*.py"):
        for module in imports(file):
            assert module.split(".")[:2] != ["advbench", "cli"], f"{file.name} imports {module}"


def test_the_core_knows_no_study() -> None:
    names = {
        STUDIES,
        *(folder.name for folder in (ROOT / "plugins" / "studies" / STUDIES).iterdir() if folder.is_dir()),
    }
    names -= {"__pycache__"}
    assert len(names) > 1
    for file in HARNESS.rglob("*"):
        if file.suffix in (".py", ".toml", ".txt"):
            assert not [name for name in names if name in file.read_text("utf-8")], file
    assert {file.stem for file in (HARNESS / "specs" / "suites").iterdir()} == {"quickstart", "standard"}


def test_files_stay_one_thing_each() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for folder in ("harness", "plugins")
        for file in (ROOT / folder).rglob("*.py")
        if (lines := len(file.read_text("utf-8").splitlines())) > 400
    }
    assert not long
