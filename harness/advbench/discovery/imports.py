"""Finding the imports of a Python source by parsing it, including imports inside functions that have not run."""

from __future__ import annotations

import ast
import dataclasses
import functools

__all__ = ["Imports", "imports_of"]

_LOADERS = frozenset({"import_module", "__import__"})
"""Functions that import the module named by their first argument."""

_DYNAMIC = frozenset(
    {
        *("exec_module", "iter_modules", "load_module", "module_from_spec", "run_module", "run_path"),
        *("spec_from_file_location", "walk_packages"),
    }
)
"""Functions that import modules whose names are only known at run time."""

_RUNNERS = frozenset({"compile", "eval", "exec"})
"""Built-in functions that run code given as text. As methods, such as a network's ``eval``, they are harmless."""


@dataclasses.dataclass(frozen=True)
class Imports:
    """The imports of a source.

    Attributes:
        names: Absolute dotted names of modules, or of objects in modules.
        stars: Modules from which ``*`` is imported.
        readable: Whether the list is complete; False if some imports are only known at run time.
    """

    names: tuple[str, ...]
    stars: tuple[str, ...]
    readable: bool


@functools.lru_cache(maxsize=4096)
def imports_of(source: bytes, package: str) -> Imports:
    """Finds the imports of a source.

    Args:
        source: The content of the file.
        package: The package to which relative imports refer; empty outside of packages.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return Imports((), (), readable=False)
    collector = _ImportCollector(package)
    collector.visit(tree)
    return Imports(tuple(dict.fromkeys(collector.names)), tuple(dict.fromkeys(collector.stars)), collector.readable)


class _ImportCollector(ast.NodeVisitor):
    def __init__(self, package: str) -> None:
        self.package = package
        self.names: list[str] = []
        self.stars: list[str] = []
        self.readable = True
        self.loaders = set(_LOADERS)

    def visit_Import(self, node: ast.Import) -> None:
        self.names += [alias.name for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parts = self.package.split(".") if self.package else []
            kept = parts[: len(parts) - node.level + 1]
            if not kept:
                return  # beyond the top-level package: this raises ImportError at run time
            base = ".".join([*kept, *([node.module] if node.module else [])])
        self.names.append(base)
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(base)
            else:
                self.names.append(f"{base}.{alias.name}")
            if alias.name in self.loaders and alias.asname:
                self.loaders.add(alias.asname)
            if alias.name in _DYNAMIC:
                self.readable = False

    def visit_Call(self, node: ast.Call) -> None:
        name = _name_of(node.func)
        if name in self.loaders:
            imported = self._imported_name(node)
            if imported is None:
                self.readable = False
            else:
                self.names.append(imported)
                for child in (*node.args, *node.keywords):
                    self.visit(child)
                return
        self.generic_visit(node)

    def _imported_name(self, node: ast.Call) -> str | None:
        """The absolute name that such a call imports; None if it is not a constant."""
        first = node.args[0] if node.args else None
        if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
            return None
        if not first.value.startswith("."):
            return first.value
        anchor = node.args[1] if len(node.args) > 1 else None
        own = isinstance(anchor, ast.Name) and anchor.id in ("__package__", "__name__")
        if not own or not self.package:
            return None
        rest = first.value.lstrip(".")
        parts = self.package.split(".")
        kept = parts[: len(parts) - (len(first.value) - len(rest)) + 1]
        return ".".join([*kept, *([rest] if rest else [])])

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.loaders or node.id in _DYNAMIC or node.id in _RUNNERS:
            self.readable = False

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in self.loaders or node.attr in _DYNAMIC:
            self.readable = False
        self.generic_visit(node)


def _name_of(function: ast.expr) -> str:
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else ""
