"""What commands that show images of an earlier run share: its components, loaded again."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from advbench.evaluation.work.example_images import ExampleImages
from advbench.evaluation.work.workspace import Environment, Workspace, pick_device
from advbench.session.opening import CORE, data_sources, open_registry, open_store, plugin_files

__all__ = ["example_images_of"]


def example_images_of(
    options: argparse.Namespace, console: Console, manifest: Mapping[str, Any], count: int
) -> ExampleImages:
    """The example images of a run, of so many samples.

    Components and data are loaded when they are first asked for, which may raise whatever a component raises.
    """
    registry = open_registry(options)
    sources = data_sources(options, console)
    environment = Environment(
        store=open_store(options).root,
        cache_dir=sources.cache_dir,
        data_dir=sources.data_dir,
        device=pick_device(options.device),
        batch_size=250,
        core=CORE,
        plugin_files=plugin_files(options),
        without=tuple(options.no_plugin),
    )
    return ExampleImages(Workspace(environment, registry), manifest, count)
