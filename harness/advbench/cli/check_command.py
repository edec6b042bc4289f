"""``advbench check``: checks that components keep their contracts."""

from __future__ import annotations

import argparse
import warnings
from typing import TYPE_CHECKING, NamedTuple

from advbench.cli.flags import add_data_dir, add_plugin_flags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from advbench.api import Component
    from advbench.discovery.registry import Plugin, Registered, Registry
    from advbench.testing import Finding

KINDS = ("attacks", "defenses", "models", "datasets")
_BUILT, _CONTRACT = ("built from its defaults", False), "advbench.api.Component"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument(
        "components",
        nargs="*",
        metavar="SPEC|PLUGIN",
        help="a component, such as jpeg or pgd:eps=0.1; or an entry point or a distribution, to check all its "
        "components (default: the components of the files of --plugin; without --plugin, all components)",
    )
    parser.add_argument("--all-rules", action="store_true", help="also list the rules that pass")
    add_data_dir(parser)
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit code is 1 where a component breaks its contract.

    Raises:
        PluginError: A plugin that is to be checked does not load, registers nothing, or registers a name that exists.
        UsageError: There is nothing to check, or a component needs parameters.
    """
    from functools import partial

    from advbench.errors import UsageError
    from advbench.session.opening import data_sources, messages, open_registry, tables
    from advbench.session.options import LoadOptions
    from advbench.testing import check, check_suite

    load = LoadOptions.of(vars(options))
    with warnings.catch_warnings():
        # Python hides these warnings outside of tests and notebooks. Here the reader is the author of the plugin.
        warnings.filterwarnings("default", ".* deprecated since advbench ", DeprecationWarning)
        registry = open_registry(load, fault=partial(_fault, words=options.components))
    suites = _suites(registry, options.components)
    targets = _targets(registry, options.components, suites)  # reports misspelt names before any work
    ready = [target for target in targets if not target.needs]
    console, sources = tables(), data_sources(load, messages())
    broken = 0
    for target in ready:
        findings = [target.unbuilt] if target.unbuilt else check(target.component, registry=registry, sources=sources)
        broken += any(finding.passed is False for finding in findings)
        _print(console, target.label, findings, whole=options.all_rules)
    for name in suites:
        findings = check_suite(registry, name)
        broken += any(finding.passed is False for finding in findings)
        _print(console, f"suite {name}", findings, whole=options.all_rules)
    if ready or suites:
        console.print(_verdict(broken, len(ready) + len(suites)))
    missing = [f"{target.label} {target.needs}" for target in targets if target.needs]
    if missing and not broken and (not (ready or suites) or _plugins(registry, options.components)):
        raise UsageError(f"not checked: {missing[0]}" + (f" (and {len(missing) - 1} more)" if missing[1:] else ""))
    for line in missing:
        console.print(f"not checked: {line}", markup=False, soft_wrap=True)
    return int(broken > 0)


class _Target(NamedTuple):
    """A component to check.

    Attributes:
        label: Its spec, and its kind if components of other kinds have the same name.
        component: The component, or its spec if it cannot be built.
        needs: A text on the parameters that must be given; empty if there are none.
        unbuilt: The finding on the exception that was raised when it was built from its defaults.
    """

    label: str
    component: Component | str
    needs: str = ""
    unbuilt: Finding | None = None


def _fault(registry: Registry, words: Sequence[str]) -> str:
    """The problems of the plugins that are to be checked, in one line; empty if there are none.

    These plugins are the files that the user gave and the plugins that are named; with neither, all installed ones.
    """
    plugins = _plugins(registry, words)
    whole = not plugins and not words
    faults = [str(p) for p in registry.problems if whole or any(p in registry.problems_of(one) for one in plugins)]
    for plugin in plugins:
        name = f"plugin {plugin.name!r} of {plugin.provenance}"
        if not plugin.registered and not registry.problems_of(plugin):
            faults.append(f"{name}: registers nothing; call register(…) with each component in its register_… hook")
        for registered in _components(registry, [plugin]):
            component = registered.component
            if "__dataclass_params__" not in vars(component):
                faults.append(
                    f"{name}: {component.__qualname__}: decorate it with @dataclass(frozen=True), as every component is"
                )
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return faults[0] + more if faults else ""


def _plugins(registry: Registry, words: Sequence[str]) -> list[Plugin]:
    """The plugins that the user gave as files, or named by entry point or distribution."""
    components = {registered.component.name for kind in KINDS for registered in registry.all(kind)}
    names = set(words) - components
    return [p for p in registry.plugins if p.from_file or (p.name != "core" and names & {p.name, p.distribution})]


def _components(registry: Registry, plugins: Sequence[Plugin]) -> list[Registered]:
    """The usable components of some plugins that have contracts."""
    return [one for kind in KINDS for one in registry.all(kind) if any(one.plugin is plugin for plugin in plugins)]


def _suites(registry: Registry, words: Sequence[str]) -> list[str]:
    """The suites to check: those of the named plugins, or else of the given files, or else all."""
    plugins = _plugins(registry, words) or ([] if words else registry.plugins)
    named = {name for plugin in plugins for kind, name in plugin.contributions if kind == "suites"}
    return [name for name in registry.studies.names("suites") if name in named]


def _targets(registry: Registry, words: Sequence[str], suites: Sequence[str]) -> list[_Target]:
    """The components to check: those named, or else those of the given files, or else all.

    Raises:
        UsageError: There are none, and no suites, or a word names neither a component with a contract nor a plugin.
    """
    from advbench.errors import UsageError
    from advbench.testing import resolve_all

    targets = []
    for word in words:
        named = [p for p in _plugins(registry, [word]) if word in (p.name, p.distribution)]
        if named:
            targets += [_at_defaults(registry, one) for one in _components(registry, named)]
            continue
        components = resolve_all(registry, word)
        several = len(components) > 1
        targets += [_Target(f"{_kind(one)} {word}" if several else word, one) for one in components]
    if not words:
        plugins = _plugins(registry, ()) or registry.plugins
        targets = [_at_defaults(registry, one) for one in _components(registry, plugins)]
    if not targets and not suites:
        kinds = "attack, defense, model or dataset"
        raise UsageError(f"there is nothing to check: no {kinds} is registered; give a SPEC or --plugin FILE")
    return targets


def _at_defaults(registry: Registry, registered: Registered) -> _Target:
    """A component with its defaults; the label includes its kind if other kinds have a component of the same name."""
    from advbench.errors import UsageError
    from advbench.specs import resolve_one
    from advbench.testing import Finding

    kind, name = registered.kind, registered.component.name
    several = sum(one.kind in KINDS for one in registry.find(name)) > 1
    label = f"{kind[:-1]} {name}" if several else name
    required = [parameter for parameter in registered.component.parameters() if parameter.required]
    if required:
        given = ",".join(f"{parameter.name}=…" for parameter in required)
        return _Target(label, name, f"needs parameters; name it as '{name}:{given}' ({required[0].help})")
    try:
        return _Target(label, resolve_one(registry, kind, name))
    except UsageError as error:
        return _Target(label, name, unbuilt=Finding(*_BUILT, "no exception", str(error), _CONTRACT))


def _kind(component: Component) -> str:
    """The kind of a component, as one word."""
    from advbench.discovery.registry import KINDS as BASES

    return next(kind[:-1] for kind, base in BASES.items() if isinstance(component, base))


def _print(console: Console, spec: str, findings: list[Finding], *, whole: bool) -> None:
    from rich.text import Text

    kept = sum(finding.passed is True for finding in findings)
    failed = [finding for finding in findings if finding.passed is False]
    skipped = len(findings) - kept - len(failed)
    counts = f"{kept} rules kept" + (f", {skipped} skipped" if skipped else "")
    mark = Text("FAIL ", "bold red") if failed else Text("ok   ", "bold green")
    console.print(Text.assemble(mark, (spec, "bold"), f"  {counts}", f", {len(failed)} broken" if failed else ""))
    for finding in findings:
        if finding.passed is False:
            console.print(Text.assemble(("     ", ""), (finding.rule, "bold")), soft_wrap=True)
            for label, text in (
                ("expected", finding.expected),
                ("seen", finding.seen),
                ("contract", finding.contract),
            ):
                console.print(Text.assemble((f"       {label:<9}", "dim"), text), soft_wrap=True)
        elif whole:
            console.print(Text(f"     {finding}", "dim"), soft_wrap=True)


def _verdict(broken: int, count: int) -> str:
    if not broken:
        return f"\n{'it keeps' if count == 1 else f'all {count} keep'} the contract"
    return f"\n{broken} of {count} {'breaks' if broken == 1 else 'break'} the contract"
