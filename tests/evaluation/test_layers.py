"""The layers of the evaluation and of the folders below it: which may import which, also inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HARNESS = Path(__file__).parents[2] / "harness" / "advbench"
ALLOWED = {
    "process": ("process", "errors", "api.executor"),
    "contracts": ("contracts", "errors", "api"),
    "executors": ("executors", "process", "errors", "option_names", "api"),
    "evaluation/plan": ("evaluation.plan", "contracts", "discovery", "specs", "store", "errors", "option_names", "api"),
    "evaluation/work": (
        "evaluation.plan",
        "evaluation.work",
        *("analysis", "contracts", "discovery", "process", "specs", "store", "errors", "option_names", "api"),
    ),
    "evaluation/run": (
        "evaluation",
        *(
            "analysis",
            "discovery",
            "executors",
            "process",
            "specs",
            "store",
            "errors",
            "printable",
            "option_names",
            "api",
            "__version__",
            "_version",
        ),
    ),
}
MODULES = {
    ".".join(("advbench", *file.relative_to(HARNESS).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in HARNESS.rglob("*.py")
}


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that a module imports, inside functions as well; with those that an imported name may be."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in names if name in MODULES]
            yield from modules if len(modules) == len(names) else [node.module, *modules]


@pytest.mark.parametrize("layer", ALLOWED)
def test_a_layer_imports_those_below_it_only(layer: str) -> None:
    for file in sorted((HARNESS / layer).rglob("*.py")):
        for module in imported(ast.parse(file.read_text("utf-8"))):
            if module.startswith("advbench."):
                inner = module.removeprefix("advbench.")
                allowed = any(inner == name or inner.startswith(f"{name}.") for name in ALLOWED[layer])
                assert allowed, f"{file.relative_to(HARNESS)} imports {module}"


def test_planning_imports_torch_only_inside_functions() -> None:
    for file in sorted((HARNESS / "evaluation" / "plan").rglob("*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert not any(name.partition(".")[0] == "torch" for name in imported(node)), file.name


def test_no_modules_import_each_other_in_a_circle() -> None:
    edges = {
        name: {module for module in imported(ast.parse(file.read_text("utf-8"))) if module in MODULES} - {name}
        for name, file in MODULES.items()
        if any(name.startswith(f"advbench.{layer.partition('/')[0]}") for layer in ALLOWED)
    }
    while free := [name for name, targets in edges.items() if not targets & edges.keys()]:
        for name in free:
            del edges[name]
    assert not edges, f"a circle of imports is among {sorted(edges)}"


def test_a_folder_of_the_evaluation_has_at_most_twelve_files() -> None:
    folders = {file.parent for layer in ALLOWED for file in (HARNESS / layer).rglob("*.py")}
    sizes = {str(folder.relative_to(HARNESS)): len(list(folder.glob("*.py"))) for folder in folders}
    assert {folder: size for folder, size in sizes.items() if size > 12} == {}
