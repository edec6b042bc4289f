"""``advbench doctor``: checks the installation; each failing check says how to fix it."""

from __future__ import annotations

import argparse
import dataclasses
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from advbench._version import __version__
from advbench.cli.flags import add_data_dir, add_plugin_flags, add_store
from advbench.errors import StoreError, UsageError, WeightsError, describe
from advbench.printable import printable

if TYPE_CHECKING:
    from advbench.api import Dataset, DataSources, Defense, Model
    from advbench.discovery.plugins import Plugin
    from advbench.discovery.registry import Registered
    from advbench.discovery.studies import Studies


_WIDTH = 27
"""Width of the first column. Lines are printed as checks finish, so it cannot be computed."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        what: What was checked.
        seen: What was found.
        fix: How to fix it, or what else may be done.
        fails: Whether the check fails.
    """

    what: str
    seen: str
    fix: str = ""
    fails: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    add_store(parser)
    add_data_dir(parser)
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit code is 1 where a check fails."""
    findings = []
    for finding in _examine(options):
        findings.append(finding)
        mark = "FAIL" if finding.fails else "note" if finding.fix else "ok"
        print(printable(f"{mark:<5}{finding.what:<{_WIDTH}} {finding.seen}"))
        if finding.fix:
            print(printable(f"{'':<{_WIDTH + 6}}→ {finding.fix}"))
    failed = sum(finding.fails for finding in findings)
    print(f"\n{failed} of {len(findings)} checks fail" if failed else f"\nall {len(findings)} checks pass")
    return int(failed > 0)


def _examine(options: argparse.Namespace) -> Iterator[Finding]:
    yield Finding("advbench", __version__)
    yield Finding("python", f"{platform.python_version()} at {sys.executable}")
    yield from _distributions()
    torch_findings = list(_torch())
    yield from torch_findings
    if torch_findings[0].fails:
        return
    yield from _components(options)


def _distributions() -> Iterator[Finding]:
    """The versions of what advbench requires, except those of torch and torchvision, which have rows of their own."""
    for requirement in metadata.requires("advbench") or []:
        if "extra ==" in requirement or "python_version" in requirement:
            continue
        name = requirement.replace(">", " ").replace("=", " ").replace("<", " ").split()[0]
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(name, "not installed", f"pip install '{requirement}'", fails=True)
        else:
            if name not in ("torch", "torchvision"):
                yield Finding(name, version)


def _torch() -> Iterator[Finding]:
    """Whether torch imports, whether torchvision was built for it, and which devices there are."""
    together = f"reinstall both together: {sys.executable} -m pip install --force-reinstall torch torchvision"
    try:
        import torch
    except Exception as error:  # a broken build raises more than ImportError
        yield Finding("torch imports", describe(error), together, fails=True)
        return
    yield Finding("torch imports", f"{torch.__version__}, CPU threads: {torch.get_num_threads()}")
    try:
        import torchvision  # noqa: F401
    except Exception as error:  # an unmatched build raises RuntimeError: operator torchvision::nms does not exist
        yield Finding("torchvision matches torch", describe(error), together, fails=True)
    else:
        yield Finding("torchvision matches torch", metadata.version("torchvision"))
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield Finding(f"cuda:{number}", torch.cuda.get_device_name(number))
    else:
        yield Finding("cuda", "no device; advbench computes on the CPU")
    if torch.backends.mps.is_available():
        yield Finding("mps", "the GPU of this Mac; advbench uses it with --device mps")


def _components(options: argparse.Namespace) -> Iterator[Finding]:
    """Plugins, data, weights and the store."""
    from advbench.discovery.loading import discover
    from advbench.session.opening import CORE, data_sources, messages, open_store, plugin_files
    from advbench.session.options import LoadOptions

    load = LoadOptions.of(vars(options))
    registry = discover(CORE, plugin_files(load.plugin), without=load.no_plugin, strict=load.strict_plugins)
    modules: dict[tuple[str, str], list[Plugin]] = {}  # a plugin of several modules is one row
    for plugin in registry.plugins:
        modules.setdefault((plugin.name, plugin.provenance), []).append(plugin)
    for plugin, *others in modules.values():
        problems = registry.problems_of(plugin)
        if not problems:
            yield Finding(f"plugin {plugin.name}", f"{plugin.provenance}, {_counts([plugin, *others])}")
        for problem in problems:
            fix = f"fix or uninstall it, or disable it: --no-plugin {plugin.name}"
            yield Finding(f"plugin {plugin.name}", problem.message, fix, fails=True)
    yield from _suites(registry.studies)
    sources = data_sources(load, messages())
    for registered in registry.all("datasets"):
        yield from _of_defaults(registered, lambda dataset: _dataset(dataset, sources))
    for registered in registry.all("models"):
        yield from _of_defaults(registered, _model)
    for registered in registry.all("defenses"):
        yield from _of_defaults(registered, _defense)
    try:
        open_store(load).check_writable()
    except StoreError as error:
        yield Finding("store", str(error), "give another folder with --store DIR", fails=True)
    else:
        yield Finding("store", f"{open_store(load).root}, writable")


def _suites(studies: Studies) -> Iterator[Finding]:
    """A line for each suite of a plugin that cannot be read."""
    from advbench.specs import load_suite

    for name in studies.names("suites"):
        try:
            load_suite(name, studies)
        except UsageError as error:  # noqa: PERF203  some dozen suites
            fix = f"fix the file, or disable its plugin: --no-plugin {studies.plugin_of('suites', name).name}"
            yield Finding(f"suite {name}", str(error), fix, fails=True)


def _counts(plugins: Sequence[Plugin]) -> str:
    """How many components, suites and commands the modules of a plugin register, by their kind."""
    kinds = [kind for plugin in plugins for kind, _ in plugin.registered]
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    return ", ".join(f"{count} {kind if count > 1 else kind[:-1]}" for kind, count in counts.items()) or "no components"


def _of_defaults(registered: Registered, examine: Callable[[Any], Finding | None]) -> Iterator[Finding]:
    """The check of a component with its default parameters; none if a parameter has no default."""
    component = registered.component
    if any(parameter.required for parameter in component.parameters()):
        return
    try:
        built = component()
    except (Exception, SystemExit) as error:
        yield Finding(f"{registered.kind[:-1]} {component.name}", describe(error), "fix its defaults", fails=True)
    else:
        finding = examine(built)
        if finding is not None:
            yield finding


def _dataset(dataset: Dataset, sources: DataSources) -> Finding:
    what = f"dataset {dataset.name}"
    try:
        location = dataset.location(sources)
    except (Exception, SystemExit) as error:
        return Finding(what, describe(error), "see the message", fails=True)
    if location is not None:
        return Finding(what, location)
    return Finding(what, "not available yet", dataset.how_to_get())


def _model(model: Model) -> Finding:
    def digest() -> str:
        model.load()
        return model.weights_digest()

    return _weights(model, digest)


def _defense(defense: Defense) -> Finding | None:
    """The check of the weights of a defense; None if it has none."""
    try:
        if defense.weights_digest() is None:
            return None
    except (Exception, SystemExit):
        pass
    return _weights(defense, lambda: str(defense.weights_digest()))


def _weights(component: Model | Defense, digest: Callable[[], str]) -> Finding:
    from advbench.api import Trainable

    what = f"weights of {component.name}"
    try:
        return Finding(what, f"present, SHA-256 {digest()[:12]}…")
    except (Exception, SystemExit) as error:
        if isinstance(component, Trainable):
            fix = f"reinstall advbench, or train them: advbench train {component.name}"
            return Finding(what, describe(error), fix, fails=True)
        # Weights that advbench cannot train come from elsewhere, such as an extra, which need not be installed.
        missing = isinstance(error, WeightsError)
        fix = "only if you want to use it" if missing else "see the message"
        return Finding(what, describe(error), fix, fails=not missing)
