"""The floors of docs/architecture.md: who may import whom, and what may import torch when it is imported itself."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HARNESS = ROOT / "harness" / "advbench"
PLUGINS = sorted((ROOT / "plugins").glob("*/advbench_*"))
FLOORS = {
    "errors": 0,
    "printable": -1,  # the messages of errors are made printable
    "_version": 0,
    "_lazy": 0,
    "option_names": 0,
    "_deprecated": 0,
    "api": 1,
    "process": 2,
    "executors": 3,
    "scaffold": 2,
    "store": 3,
    "discovery": 3,
    "contracts": 4,
    "specs": 4,
    "evaluation": 4,  # its __init__.py
    "analysis": 5,
    "evaluation.plan": 5,
    "report": 6,
    "evaluation.work": 6,
    "evaluation.run": 7,
    "testing": 8,
    "session": 9,
    "results": 12,
    "cli": 11,
    "live": 11,
    "__main__": 13,
    "__init__": 13,
}
TORCH = ("api", "process", "contracts", "executors", "evaluation.work", "live", "testing")
"""What computes; everything else imports torch inside functions, if at all."""

HEAVY = frozenset({"torch", "torchvision", "scipy", "sklearn", "skimage", "foolbox", "pandas"})


def modules(folder: Path) -> dict[str, Path]:
    """The modules of a package, by name."""
    names = {}
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


CORE = modules(HARNESS)


def imports(tree: ast.AST, *, nested: bool = True) -> Iterator[str]:
    """What a module imports, but for annotations alone; with ``nested`` also inside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in CORE else node.module
        elif nested or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, nested=nested)


def of(file: Path, *, nested: bool = True) -> set[str]:
    return set(imports(ast.parse(file.read_text("utf-8")), nested=nested))


def part_of(module: str) -> str:
    """The part of the core that a module belongs to."""
    names = module.split(".")[1:]
    if not names:
        return "__init__"
    return ".".join(names[:2]) if names[0] == "evaluation" and len(names) > 1 else names[0]


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_downwards_and_no_plugin(module: str) -> None:
    here = part_of(module)
    for imported in of(CORE[module]):
        assert not imported.startswith("advbench_"), f"{module} imports the plugin {imported}"
        if not imported.startswith("advbench."):
            continue
        there = part_of(imported)
        allowed = there == here or FLOORS[there] < FLOORS[here]
        assert allowed, f"{module} (floor {FLOORS[here]}) imports {imported} (floor {FLOORS[there]})"


def test_no_two_modules_import_each_other() -> None:
    graph = {module: of(file) & set(CORE) - {module} for module, file in CORE.items()}
    while graph:
        imported = set().union(*graph.values())
        outer = {module for module in graph if module not in imported or not graph[module] & graph.keys()}
        if not outer:
            break
        graph = {module: names - outer for module, names in graph.items() if module not in outer}
    assert not graph, "these are in a circle of imports, or between two"


@pytest.mark.parametrize("module", [name for name in CORE if part_of(name) not in TORCH])
def test_what_does_not_compute_imports_nothing_heavy_at_the_top(module: str) -> None:
    assert not {name.partition(".")[0] for name in of(CORE[module], nested=False)} & HEAVY


@pytest.mark.parametrize("package", PLUGINS, ids=lambda package: package.name)
def test_a_plugin_imports_the_api_alone(package: Path) -> None:
    allowed = {"advbench.api", "advbench.results"} if package.name == "advbench_studies" else {"advbench.api"}
    for file in package.rglob("*.py"):
        for module in of(file):
            if module == "advbench" or module.startswith("advbench."):
                assert module in allowed, f"{file.name} imports {module}; it may import {', '.join(sorted(allowed))}"
            if module.startswith("advbench_"):
                assert module.partition(".")[0] == package.name, f"{file.name} imports another plugin, {module}"


def test_the_core_knows_no_study() -> None:
    studies = ROOT / "plugins" / "studies" / "advbench_studies"
    names = ["advbench_studies", *(folder.name for folder in studies.iterdir() if (folder / "__init__.py").exists())]
    assert len(names) > 1
    for file in HARNESS.rglob("*"):
        if file.suffix in (".py", ".toml", ".txt"):
            text = file.read_text("utf-8")
            assert not [name for name in names if name in text], file
    suites = {"quickstart", "standard", "imagenet-20", "imagenet-20-adaptive"}
    assert {file.stem for file in (HARNESS / "specs" / "suites").iterdir()} == suites


SOURCES = [file for folder in ("harness", "plugins") for file in (ROOT / folder).rglob("*.py")]


def test_files_stay_one_thing_each() -> None:
    lines = {str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines()) for file in SOURCES}
    assert not {file: count for file, count in lines.items() if count > 400}
    assert statistics.median(lines.values()) <= 110


def test_functions_fit_a_screen() -> None:
    long = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= 70
    ]
    assert not long


def test_folders_of_the_evaluation_stay_small() -> None:
    folders = {file.parent for file in (HARNESS / "evaluation").rglob("*.py")}
    assert not {folder for folder in folders if len(list(folder.glob("*.py"))) > 12}


def test_the_architecture_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    attacks = ROOT / "plugins" / "attacks" / "advbench_attacks"
    folders = (ROOT, HARNESS, attacks, attacks / "minimal")
    named = set(re.findall(r"`([a-z_0-9/]+\.py)`", text))
    assert len(named) > 15
    assert not [name for name in named if not any((folder / name).is_file() for folder in folders)]
    parts = set(re.findall(r"^  ([a-z_/]+)/ +\d+  ", text, flags=re.MULTILINE))
    folders_with_a_floor = {name.replace(".", "/") for name in FLOORS if (HARNESS / name.replace(".", "/")).is_dir()}
    assert parts == folders_with_a_floor - {"evaluation"}
