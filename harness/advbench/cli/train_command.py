"""``advbench train``: trains the weights of a component by its recipe."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from advbench.cli.flags import add_data_dir, add_device, add_plugin_flags
from advbench.printable import one_line
from advbench.session.values import at_least

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from advbench.api import Component, DataSources, LabelledImages, Trainable, TrainingProgress
    from advbench.discovery.registry import Registry
    from advbench.session.defended_data import DefendedImages
    from advbench.specs import Chain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("name", help="the model or defense to train, such as mnist-cnn or vqvae:noise=0.25")
    parser.add_argument("--recipe", metavar="NAME", help="one of the component's recipes (default: its first)")
    parser.add_argument("--dataset", metavar="NAME", help="dataset to train on, if the component supports several")
    parser.add_argument(
        "--noise", metavar="X", help="strength of the noise on training images; the same as NAME:noise=X"
    )
    parser.add_argument(
        "--defense", metavar="SPEC", help="train a classifier on images that this defense has transformed"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="file for the weights (default: named after the component)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing weights")
    parser.add_argument("--epochs", type=at_least(1), metavar="N", help="number of epochs (default: the recipe's)")
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="seed of all randomness")
    add_device(parser)
    add_data_dir(parser)
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    import torch

    from advbench.api import TrainingJob, UsageError
    from advbench.evaluation.work.workspace import pick_device
    from advbench.session.defended_data import DefendedImages
    from advbench.session.opening import data_sources, messages, open_registry
    from advbench.session.options import LoadOptions

    console = messages()
    load = LoadOptions.of(vars(options))
    registry = open_registry(load)
    spec = options.name if options.noise is None else _with_parameter(options.name, "noise", options.noise)
    component, trainable = _trainable(registry, spec)
    recipe = _chosen(component.name, "--recipe", options.recipe, list(trainable.recipes), ask=False)
    dataset = _chosen(component.name, "--dataset", options.dataset, list(trainable.training_sets), ask=True)
    output = options.output or Path(f"{trainable.weights_name(dataset)}.safetensors")
    if output.suffix != ".safetensors":
        raise UsageError(f"--output {output}: the name must end in .safetensors")
    if not output.parent.is_dir():
        raise UsageError(f"--output {output}: the folder {output.parent} does not exist; make it first")
    if output.exists() and not options.overwrite:
        raise UsageError(f"--output {output}: exists already; give another file, or --overwrite to replace it")
    sources = data_sources(load, console)
    chain = None if options.defense is None else _behind(registry, component, trainable, options.defense)
    bar = _Bar(console)
    where = torch.device(pick_device(options.device))
    kept = DefendedImages(output.with_suffix(".defended"))
    job = TrainingJob(
        output=output,
        load_dataset=lambda spec: _load(registry, spec, sources),
        load_model=lambda spec: _load_model(registry, spec, where),
        device=where,
        seed=options.seed,
        epochs=options.epochs,
        recipe=recipe,
        dataset=dataset,
        report=bar.report,
        defense=options.defense or "",
        defend=lambda data: data if chain is None else _defend(chain, data, options, where=where, bar=bar, kept=kept),
    )
    if job.checkpoint.exists():
        console.print(f"resuming from {job.checkpoint}", markup=False, soft_wrap=True)
    try:
        with bar:
            sidecar = trainable.train(job)
    except KeyboardInterrupt:
        state = f"the checkpoint is {job.checkpoint}" if job.checkpoint.exists() else "there is no checkpoint yet"
        if kept.folder.exists():
            state += f"; transformed images are kept in {kept.folder}"
        command = shlex.join(["advbench", *options.words])
        print(one_line(f"advbench train: interrupted; {state}. Resume with: {command}"), file=sys.stderr)
        return 130
    kept.remove()
    console.print(f"wrote {output}", markup=False, soft_wrap=True)
    for key, value in sidecar.items():
        if isinstance(value, (int, float, str)):
            console.print(f"  {key}: {value}", markup=False, soft_wrap=True)
    console.print(f"use it as {_with_parameter(spec, 'weights', str(output))}", markup=False, soft_wrap=True)
    return 0


def _chosen(name: str, flag: str, given: str | None, offered: list[str], *, ask: bool) -> str:
    """The user's choice among what a component offers; without one the first, unless ``ask`` requires a choice."""
    from advbench.api import UsageError, closest

    there_are = f"{name} has: {', '.join(offered)}"
    if given is None:
        if ask and len(offered) > 1:
            raise UsageError(f"{flag} is needed; {there_are}")
        return offered[0]
    if given not in offered:
        raise UsageError(f"{flag} {given}: {closest(given, offered) or there_are}")
    return given


def _with_parameter(spec: str, key: str, value: str) -> str:
    return f"{spec}{',' if ':' in spec else ':'}{key}={value}"


def _behind(registry: Registry, component: Component, trainable: Trainable, spec: str) -> Chain:
    """The defense that a classifier is trained behind."""
    from advbench.api import UsageError
    from advbench.specs import resolve_chain

    if not trainable.trains_behind_defenses:
        raise UsageError(f"--defense {spec}: {component.name} has no recipe for images of a defense; leave it out")
    chains = resolve_chain(registry, spec)
    if len(chains) != 1:
        raise UsageError(f"--defense {spec}: stands for {len(chains)} defenses; give one")
    for part in chains[0].parts:
        part.weights_digest()  # missing or wrong weights are an error before thousands of images are transformed
    return chains[0]


def _defend(
    chain: Chain,
    data: LabelledImages,
    options: argparse.Namespace,
    *,
    where: torch.device,
    bar: _Bar,
    kept: DefendedImages,
) -> LabelledImages:
    """Transforms images, or reads those that an interrupted training has transformed."""
    from advbench.session.defended_data import apply_defense

    spec = options.defense
    bar.say(f"transforming {len(data):,} images with {spec}")
    with bar.counting("transforming", len(data)) as report:
        defended = apply_defense(chain, data, name=spec, seed=options.seed, device=where, kept=kept, report=report)
    if kept.error:
        bar.say(f"transformed images cannot be kept in {kept.folder} ({kept.error}); a resumed training repeats this")
    return defended


def _trainable(registry: Registry, text: str) -> tuple[Component, Trainable]:
    """The component of a spec, twice: as a component and as one with training recipes."""
    from advbench.api import Trainable, UsageError
    from advbench.errors import listed
    from advbench.specs import parse_chain, resolve_one

    name = parse_chain(text)[0].name
    registered = [one for one in registry.find(name) if issubclass(one.component, Trainable)]
    if not registered:
        kinds = ("models", "defenses")
        names = [r.component.name for kind in kinds for r in registry.all(kind) if issubclass(r.component, Trainable)]
        raise UsageError(f"{name!r} has no training recipe; there are recipes for: {listed(names) or 'nothing'}")
    component = resolve_one(registry, registered[0].kind, text)
    assert isinstance(component, Trainable)
    return component, component


def _load(registry: Registry, spec: str, sources: DataSources) -> LabelledImages:
    from advbench.api import Dataset
    from advbench.specs import resolve_one

    dataset = resolve_one(registry, "datasets", spec)
    assert isinstance(dataset, Dataset)
    return dataset.load(sources)


def _load_model(registry: Registry, spec: str, where: torch.device) -> torch.nn.Module:
    from advbench.api import Model, UsageError
    from advbench.specs import resolve_one

    model = resolve_one(registry, "models", spec)
    assert isinstance(model, Model)
    if model.stochastic:
        raise UsageError(f"model {spec!r} is stochastic; a component can only be trained on a deterministic model")
    return model.load().eval().requires_grad_(False).to(where)


class _Bar:
    """A progress bar in a terminal; elsewhere one line for each epoch, and for each tenth of the transformed images."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.console = console
        self.live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.live.add_task("epoch", total=None, figures="")
        self.epoch = 0

    def __enter__(self) -> _Bar:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Shows the progress of something that comes before the training; yields what to call with how much is done."""
        tenths = 0

        def report(done: int) -> None:
            nonlocal tenths
            self.live.update(self.task, completed=done, figures=f"{done:,} of {total:,} images")
            if not self.console.is_terminal and 10 * done // total > tenths:
                tenths = 10 * done // total
                self.say(f"{what} {done:,} of {total:,} images")

        self.live.reset(self.task, total=total, description=what, figures="")
        try:
            yield report
        finally:
            self.live.reset(self.task, total=None, description="epoch", figures="")

    def report(self, progress: TrainingProgress) -> None:
        figures = "  ".join(f"{name} {value:.4f}" for name, value in progress.figures.items())
        epoch = f"epoch {progress.epoch}/{progress.epochs}"
        self.live.update(self.task, total=progress.steps, completed=progress.step, description=epoch, figures=figures)
        ended = progress.step * progress.epochs // progress.steps
        if not self.console.is_terminal and ended > self.epoch:
            self.say(f"{epoch}  {figures}")
        self.epoch = max(self.epoch, ended)
