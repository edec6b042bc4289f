"""Components that have changed since a stored run: their code, weights and data, compared with the run's key inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advbench.api import Component, Dataset, Defense, Model
from advbench.api.files import sha256_file
from advbench.discovery.identity import code_digests
from advbench.evaluation.work.workspace import Workspace
from advbench.specs import full_spec

__all__ = ["ChangedSinceRun", "ComponentChanges"]

_WEIGHTS, _DATA = "weights", "data"


@dataclasses.dataclass(frozen=True)
class ChangedSinceRun:
    """How the components of a cell differ from those of the run.

    Attributes:
        refusal: Why the cell's example images cannot be computed again; empty if they can.
        parts: What differs, with the component that it belongs to, such as ``("dim.py", "defense 'dim'")``.
    """

    refusal: str = ""
    parts: tuple[tuple[str, str], ...] = ()


class ComponentChanges:
    """Compares the components of a run's cells with those that are loaded now, each once.

    Args:
        workspace: Where components are loaded, with the store.
        manifest: The run's manifest.
    """

    def __init__(self, workspace: Workspace, manifest: Mapping[str, Any]) -> None:
        self._workspace = workspace
        loaded = {_digest(file) for file in workspace.environment.plugin_files} - {None}
        plugins = manifest.get("plugins", ())
        self._plugin_files = {Path(str(plugin.get("name"))).name: plugin.get("sha256") for plugin in plugins}
        # A file's name is part of its digest, but a plugin file may have another name by now.
        self._unchanged = {name for name, content in self._plugin_files.items() if content in loaded}
        self._changed: dict[tuple[type[Component], str], list[str]] = {}

    def of(self, described: Mapping[str, Any]) -> ChangedSinceRun:
        """The changes of one cell, as the manifest describes it.

        A network with other weights, or from another file, is not the one that was attacked: its images are refused.
        All else is reported. The user has chosen the plugin files, and updates of packages would otherwise hide all
        images.
        """
        workspace = self._workspace
        cell = workspace.store.read_key_inputs("cells", described["key"]) or {}
        before = workspace.store.read_key_inputs("clean", cell.get("clean", ""))
        if before is None:
            return ChangedSinceRun()
        model = workspace.model(described["model"])
        of_model = self._compare(model, before["model"])
        essential = [what for what in of_model if self._is_network_file(what)]
        essential += ["its weights"] * (_WEIGHTS in of_model)
        if essential:
            return ChangedSinceRun(
                f"model {model.name!r} is not that of the run: {' and '.join(essential)} changed; repeat the run's "
                "command to evaluate it as it is now"
            )
        dataset = workspace.dataset(described["dataset"])
        changes = [("dataset", dataset, self._compare(dataset, before["dataset"])), ("model", model, of_model)]
        for part, identity in zip(workspace.chain(described["defense"]).parts, before["defense"], strict=False):
            changes.append(("defense", part, self._compare(part, identity)))
        return ChangedSinceRun(
            parts=tuple((what, f"{kind} {one.name!r}") for kind, one, changed in changes for what in changed)
        )

    def _compare(self, component: Component, before: Mapping[str, Any]) -> list[str]:
        """What has changed: packages and files by their names, weights and data."""
        key = type(component), full_spec(component)
        if key not in self._changed:
            code = code_digests(type(component), component.code_modules())
            changed = [
                name
                for name, digest in before["code"].items()
                if code.get(name) != digest and name not in self._unchanged
            ]
            if isinstance(component, (Model, Defense)) and component.weights_digest() != before["weights"]:
                changed.append(_WEIGHTS)
            if isinstance(component, Dataset) and self._data_digest(component) != before["digest"]:
                changed.append(_DATA)
            self._changed[key] = changed
        return self._changed[key]

    def _data_digest(self, dataset: Dataset) -> str:
        """The digest of a dataset's content, of the images that are already loaded if it would load them."""
        spec = full_spec(dataset)
        if type(dataset).digest is Dataset.digest:
            return self._workspace.images(spec).digest()
        return self._workspace.dataset_digest(spec)

    def _is_network_file(self, name: str) -> bool:
        """Whether a part of a model's code is a single file that is no plugin."""
        return name.endswith(".py") and name not in self._plugin_files


def _digest(file: Path) -> str | None:
    """The digest of a file's content; None if it has been deleted since it was loaded."""
    try:
        return sha256_file(file)
    except OSError:
        return None
