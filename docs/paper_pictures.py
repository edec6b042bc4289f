"""The two pictures of the page on the 2019 paper: ``python docs/paper_pictures.py REPRODUCTION.json DIR``.

``REPRODUCTION.json`` is written by ``advbench reproduce paper --output REPRODUCTION.json``. The digit's picture is
computed on the 64 first images of MNIST's test set that the paper's suites draw, so MNIST must be at hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import advbench
from advbench.api import Model, SampleRandom
from advbench_defenses.jpeg import JpegCompression
from advbench_models.mnist_cnn import MnistCnn

FOOLBOX2, MINIMAL = "deepfool:variant=foolbox2", "deepfool"
GROUP = 64
"""Images of one group: the batch size of ``foolbox2``, whose gradients are means over the group."""

COLOURS = {"fgsm": "#0072B2", "pgd": "#D55E00", "cw": "#009E73", "deepfool": "#B5378A"}
NAMES = {"fgsm": "FGSM", "pgd": "PGD", "cw": "CW", "deepfool": "DeepFool"}
"""In the adaptive protocol, PGD's row also counts APGD."""
MARKERS = {"fgsm": "o", "pgd": "s", "cw": "^", "deepfool": "D"}
OFFSETS = {"fgsm": 0.24, "pgd": 0.08, "cw": -0.08, "deepfool": -0.24}
"""Vertical shifts, so that markers of equal accuracies do not cover each other."""
CORRECT, WRONG, GREY = "#00664A", "#B33A00", "#8A8A8A"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.linewidth": 0.6,
    "svg.fonttype": "path",
    "svg.hashsalt": "advbench",
}


def draw_digit() -> Figure:
    """Draws one digit: clean, attacked by DeepFool, and attacked by DeepFool as in Foolbox 2.3.0, each after JPEG, too.

    It is the digit whose perturbation by the latter has the median L2 norm among those that show the typical outcome:
    JPEG undoes the first attack, and not the second.
    """
    results = advbench.matrix(
        datasets="mnist", models="mnist-cnn", attacks=[MINIMAL, FOOLBOX2], defenses=["none", "jpeg"], limit=GROUP
    )
    attacked = [results.adversarial(attack=attack, defense="none") for attack in (MINIMAL, FOOLBOX2)]
    labels, ids = attacked[0].labels, attacked[0].ids
    clean = _clean_images(ids)
    pictures = [clean, *(one.images for one in attacked)]
    after_jpeg = [_jpeg(images, ids) for images in pictures]
    before, after = [_classify(images) for images in pictures], [_classify(images) for images in after_jpeg]
    norms = [np.linalg.norm((images - clean).reshape(len(clean), -1), axis=1) for images in pictures]
    typical = (after[1] == labels) & (after[2] != labels) & (before[1] != labels) & (before[2] != labels)
    rows = np.flatnonzero(typical)
    row = rows[np.argmin(np.abs(norms[2][rows] - np.median(norms[2][before[2] != labels])))]

    figure = Figure(figsize=(6.9, 1.95), layout="constrained")
    axes = figure.subplots(1, 7, width_ratios=(1, 0.04, 1, 1, 0.04, 1, 1))
    _show(axes[0], pictures[0][row], "original", before[0][row], labels[row])
    for first, column, title in ((2, 1, "DeepFool, done right"), (5, 2, "DeepFool of Foolbox 2.3.0")):
        name = f"{title}\nL2 distance {norms[column][row]:.1f}"
        _show(axes[first], pictures[column][row], name, before[column][row], labels[row])
        _show(axes[first + 1], after_jpeg[column][row], "the same\nafter JPEG 90", after[column][row], labels[row])
    for gap in (axes[1], axes[4]):
        gap.set_visible(False)
    return figure


def _clean_images(ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns the unperturbed images: what an attack without any budget leaves."""
    nothing = advbench.matrix(
        datasets="mnist", models="mnist-cnn", attacks="fgsm:eps=0", defenses="none", limit=len(ids)
    ).adversarial()
    assert (nothing.ids == ids).all()
    return nothing.images


def _jpeg(images: np.ndarray[Any, Any], ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return JpegCompression().apply(torch.from_numpy(images), SampleRandom(0, "defense", ids.tolist())).numpy()


def _classify(images: np.ndarray[Any, Any], model: Model | None = None) -> np.ndarray[Any, Any]:
    network = (model or MnistCnn()).load().eval()
    with torch.no_grad():
        classes: np.ndarray[Any, Any] = network(torch.from_numpy(images)).argmax(1).numpy()
    return classes


def _show(axis: Axes, image: np.ndarray[Any, Any], title: str, predicted: int, label: int) -> None:
    axis.imshow(image[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    mark, colour = ("✓", CORRECT) if predicted == label else ("✗", WRONG)
    axis.set_title(title if "\n" in title else f"\n{title}", fontsize=7.5, linespacing=1.3)
    axis.set_xlabel(f"{mark} classified as {predicted}", color=colour, fontsize=8)
    for spine in axis.spines.values():
        spine.set(visible=True, color=colour, linewidth=1.2)


def draw_accuracies(reproduction: Mapping[str, Any]) -> Figure:
    """Draws the accuracy of each defense against each attack: a column of panels a protocol, a row a dataset."""
    protocols = reproduction["protocols"]
    datasets = list(dict.fromkeys((row["dataset"], row["dataset_name"]) for p in protocols for row in p["rows"]))
    figure = Figure(figsize=(6.9, 0.55 + 2.05 * len(datasets)), layout="constrained")
    axes = figure.subplots(len(datasets), len(protocols), squeeze=False, sharex=True, sharey=True)
    for line, (dataset, name) in enumerate(datasets):
        for column, protocol in enumerate(protocols):
            axis = axes[line, column]
            _panel(axis, protocol, dataset)
            if line == 0:
                axis.set_title(_folded(protocol["title"]), fontsize=8)
        axes[line, 0].set_ylabel(name, fontsize=9, fontweight="bold")
    handles = {str(line.get_label()): line for axis in axes.flat for line in axis.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    figure.supxlabel("accuracy in %", fontsize=8)
    return figure


def _panel(axis: Axes, protocol: Mapping[str, Any], dataset: str) -> None:
    defenses: Sequence[Mapping[str, str]] = protocol["defenses"]
    heights = np.arange(len(defenses))[::-1]
    axis.hlines(heights, 0, 100, color="#E4E4E4", linewidth=0.6, zorder=0)
    for row in protocol["rows"]:
        if row["dataset"] != dataset:
            continue
        cells = [row["cells"][defense["key"]]["accuracy"] for defense in defenses]
        points = [(100 * value, height) for value, height in zip(cells, heights, strict=True) if value is not None]
        if not points:
            continue
        x = [percent for percent, _ in points]
        y = [height + OFFSETS.get(row["attack"], 0) for _, height in points]
        if row["attack"] is None:
            axis.plot(x, y, "|", color=GREY, markersize=7, markeredgewidth=1.4, label="no attack")
            continue
        axis.plot(
            x, y, MARKERS[row["attack"]], color=COLOURS[row["attack"]], markersize=4, alpha=0.85,
            markeredgewidth=0, label=NAMES[row["attack"]],
        )  # fmt: skip
    axis.set_xlim(-4, 104)
    axis.set_xticks([0, 50, 100])
    axis.tick_params(length=0)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_yticks(heights, [defense["title"] for defense in defenses], fontsize=7.5)


def _folded(title: str) -> str:
    """A protocol's title in two lines."""
    words = title.replace(", ", ",\n", 1) if ", " in title else "\n".join(title.rsplit(" ", 1))
    return words[:1].upper() + words[1:]


def main(source: Path, folder: Path) -> None:
    """Writes ``digit.svg`` and ``accuracies.svg``."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, figure in (
            ("digit", draw_digit()),
            ("accuracies", draw_accuracies(json.loads(source.read_text("utf-8")))),
        ):
            figure.savefig(folder / f"{name}.svg", facecolor="white", metadata={"Date": None})
            print(folder / f"{name}.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
