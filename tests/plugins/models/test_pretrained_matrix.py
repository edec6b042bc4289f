"""Attacks and defenses run on networks of other libraries, on colour images of 224 x 224 pixels."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.real_models import ATTACKS, DEFENSES
from tests.plugins.models.folders import VIT, hf_folder, photograph, timm_folder

from advbench.discovery.loading import discover
from advbench.specs import resolve, resolve_one

pytestmark = pytest.mark.slow

DEFENDED = ("none", "jpeg", "vqvae")


@pytest.mark.parametrize("library", ["timm", "hf"])
def test_no_cell_fails(call: Callable[..., Any], tmp_path: Path, library: str) -> None:
    folder = tmp_path / library
    if library == "timm":
        timm_folder(folder)
        spec = f"timm:arch={VIT},checkpoint={folder}"
    else:
        hf_folder(folder)
        spec = f"hf:repo={folder},resize=always"
    images = np.stack([np.asarray(photograph(224, 224)), np.asarray(photograph(224, 224))[::-1]])
    model: Any = resolve_one(discover(), "models", spec)
    with torch.no_grad():
        logits = model.load().eval()(torch.from_numpy(images.copy()).permute(0, 3, 1, 2) / 255)
    np.savez(tmp_path / "images.npz", images=images, labels=logits.argmax(dim=1).numpy())
    called = call(
        *(
            "matrix",
            "--datasets",
            f"npz:path={tmp_path / 'images.npz'}",
            "--models",
            spec,
            "--store",
            tmp_path / "store",
        ),
        *("--attacks", "pgd:eps=4/255,steps=2", "deepfool:steps=2", "jpeg-compression", "--defenses", *DEFENDED),
        *("--threats", "oblivious", "adaptive", "--export", tmp_path / "cells.json"),
    )
    assert called.code == 0, called.err
    cells = json.loads((tmp_path / "cells.json").read_text())["cells"]
    assert {cell["status"] for cell in cells if "vqvae" in cell["defense"]} == {"skipped"}
    others = [cell for cell in cells if "vqvae" not in cell["defense"]]
    assert len(others) == 10  # of two attacks under two threats, and of one corruption, with two defenses each
    assert {cell["status"] for cell in others} == {"ok"}
    assert {cell["clean_accuracy"] for cell in others if cell["defense"] == "none"} == {1.0}


def test_the_benchmark_of_real_models_has_every_attack_and_every_defense() -> None:
    registry = discover()
    for kind, specs in (("attacks", ATTACKS), ("defenses", DEFENSES)):
        named = {spec.partition(":")[0] for spec in specs}
        assert named == {entry.component.name for entry in registry.all(kind)} - {"foolbox"}
        for spec in specs:
            assert resolve(registry, kind, spec)


def test_plugins_start_without_the_libraries() -> None:
    program = "import sys, advbench_models.plugin\nprint({name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(eval(done.stdout))
    assert "advbench_models" in loaded
    assert not loaded & {"timm", "transformers", "huggingface_hub", "onnx", "onnxruntime", "robustbench", "torchvision"}
