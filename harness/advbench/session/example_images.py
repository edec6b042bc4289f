"""Example images of a stored run: its components are loaded again to compute them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from advbench.analysis import CellExamples
from advbench.discovery.identity import clear_digest_cache
from advbench.errors import UsageError
from advbench.evaluation.work.examples.example_images import ExampleImages
from advbench.evaluation.work.workspace import Environment, Workspace, pick_device
from advbench.process.working_folder import working_folder
from advbench.session.opening import CORE, data_sources, open_registry, open_store, plugin_files
from advbench.session.options import LoadOptions
from advbench.session.run_files import missing_file, plugin_files_of, spec_folder_of

__all__ = ["example_images_of"]


def example_images_of(options: LoadOptions, console: Console, manifest: Mapping[str, Any], count: int) -> ExampleImages:
    """The example images of a stored run.

    Plugin files, the folder of files that specs name and the folder of datasets are those of the run, unless the
    options name others. Components and data are loaded when they are first needed. They may raise anything then.

    Args:
        options: Where components, data and results are.
        console: Where downloads are reported.
        manifest: The manifest of the run.
        count: How many samples of each cell.
    """
    files, problems = plugin_files_of(manifest, plugin_files(options.plugin))
    folder = spec_folder_of(manifest)
    data_dir = Path(str(manifest.get("data_dir") or ""))
    if options.data_dir is None and data_dir.is_absolute() and data_dir.is_dir():
        options = dataclasses.replace(options, data_dir=data_dir)
    sources = data_sources(options, console)
    environment = Environment(
        store=open_store(options).root.absolute(),
        cache_dir=sources.cache_dir.absolute(),
        data_dir=sources.data_dir and sources.data_dir.absolute(),
        device=pick_device(options.device),
        batch_size=250,
        core=CORE,
        plugin_files=files,
        without=options.no_plugin,
    )
    clear_digest_cache()  # files may have changed since this process read them
    with working_folder(folder):
        registry = open_registry(options, files)
    return _StoredExamples(Workspace(environment, registry), manifest, count, folder=folder, problems=problems)


class _StoredExamples(ExampleImages):
    """Example images of a run whose specs may name files that have moved since."""

    def of(self, described: Mapping[str, Any]) -> CellExamples:
        """The example images of one finished cell; see :meth:`ExampleImages.of`.

        Raises:
            UsageError: Also if a file that a spec names is no longer where it was.
        """
        try:
            return super().of(described)
        except Exception as error:
            if reason := missing_file(self.manifest, described, str(error)):
                raise UsageError(reason) from error
            raise
