"""Example images of a stored run: its components are loaded again to compute them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from advbench.evaluation.work.example_images import ExampleImages
from advbench.evaluation.work.workspace import Environment, Workspace, pick_device
from advbench.session.opening import CORE, data_sources, open_registry, open_store, plugin_files
from advbench.session.options import LoadOptions

__all__ = ["example_images_of"]


def example_images_of(options: LoadOptions, console: Console, manifest: Mapping[str, Any], count: int) -> ExampleImages:
    """The example images of a stored run.

    Components and data are loaded when they are first needed. They may raise anything then.

    Args:
        options: Where components, data and results are.
        console: Where downloads are reported.
        manifest: The manifest of the run.
        count: How many samples of each cell.
    """
    files = plugin_files(options.plugin)
    registry = open_registry(options, files)
    sources = data_sources(options, console)
    environment = Environment(
        store=open_store(options).root,
        cache_dir=sources.cache_dir,
        data_dir=sources.data_dir,
        device=pick_device(options.device),
        batch_size=250,
        core=CORE,
        plugin_files=files,
        without=options.no_plugin,
    )
    return ExampleImages(Workspace(environment, registry), manifest, count)
