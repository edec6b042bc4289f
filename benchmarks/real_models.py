"""Runs every native attack and every defense on a transformer of timm and a ResNet of transformers, at 224 x 224.

Run from the root of the checkout, with the extras timm and hf installed::

    python -m benchmarks.real_models --models vit resnet --parts attacks defenses

The networks have random weights, and are read from local folders in the layout of the Hugging Face hub. The images are
two photographs that Foolbox ships; their labels are what the network says, so that all of them are attacked. Attacks
have few steps. All cells must succeed, or be skipped with a reason: the exit code is 1 if one fails. It takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from advbench.api import Model
from advbench.discovery.loading import discover
from advbench.specs import resolve_one

__all__ = ["ATTACKS", "DEFENSES", "main"]

EPS = "eps=4/255"
ATTACKS = (
    *(f"apgd:{EPS},steps=3", f"apgd-t:{EPS},steps=2,targets=2", f"autoattack:{EPS},steps=2,targets=2,queries=5"),
    *("cw:steps=3,search_steps=2", "ddn:steps=3", "deepfool:steps=3", "fab-t:steps=2,targets=2", f"fgsm:{EPS}"),
    *("fmn:steps=3", f"noise:{EPS}", "patch:steps=2,batch=2", f"pgd:{EPS},steps=2", f"rays:{EPS},queries=20"),
    *("rotate-shift:angles=3,shifts=2", "graffiti:steps=2", f"square:{EPS},queries=10"),
    *(f'with-view:attack="pgd:{EPS},steps=2"', f'worst-of:of="fgsm:{EPS} | noise:{EPS}"'),
    *("brightness", "contrast", "defocus-blur", "elastic-transform", "fog", "gaussian-blur", "gaussian-noise"),
    *("glass-blur", "impulse-noise", "jpeg-compression", "motion-blur", "pixelate", "saturate", "shot-noise"),
    *("speckle-noise", "zoom-blur"),
)
DEFENSES = (
    *(
        "none",
        "bilateral",
        "bit-depth",
        "crop-ensemble:crops=3",
        "denoiser",
        "defense-gan:L=2,R=1",
        'ensemble:of="jpeg | median"',
    ),
    *("feature-squeezing:bits=4,search=3", "gaussian", "gaussian-noise", "jpeg", "kmeans:clusters=4", "median"),
    *("non-local-means:search=3", "quilting", "resize-pad", "shield", "smoothing:samples=4", "tvm:iterations=3"),
    *("vqvae", "wavelet"),
)
_PARTS = {
    "attacks": ("--attacks", *ATTACKS, "--defenses", "none"),
    "defenses": ("--attacks", f"pgd:{EPS},steps=2", "--defenses", *DEFENSES),
}
_ATTACKED = ("imagenet_00_243.jpg", "imagenet_14_129.jpg")


def main() -> int:
    """Runs the parts and prints the cells; returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=("vit", "resnet"), default=("vit", "resnet"))
    parser.add_argument("--parts", nargs="+", choices=tuple(_PARTS), default=tuple(_PARTS))
    parser.add_argument("--folder", type=Path, help="folder for networks, images and results; none: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        cells = [
            cell for name in options.models for part in options.parts for cell in _cells(folder, name, _PARTS[part])
        ]
    columns = ("model", "attack", "threat", "defense", "status", "robust_accuracy", "error")
    print(tabulate([[str(cell.get(column, ""))[:60] for column in columns] for cell in cells], headers=columns))
    failed = sum(cell["status"] == "error" for cell in cells)
    print(f"{len(cells)} cells, {failed} failed")
    return 1 if failed else 0


def _cells(folder: Path, name: str, axes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Runs one part of the matrix on one network; returns the cells."""
    spec = _network(folder, name)
    images, others = _photographs()
    model = resolve_one(discover(), "models", spec)
    assert isinstance(model, Model)
    with torch.no_grad():
        network = model.load().eval()
        labels = network(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).argmax(dim=1).numpy()
    np.savez(folder / f"{name}.npz", images=images, labels=labels)
    # The images for fits have as many classes as those that are attacked.
    np.savez(folder / f"{name}-fit.npz", images=others, labels=np.append(np.arange(len(others) - 1), labels.max()))
    exported = folder / "cells.json"
    command = [
        *(sys.executable, "-m", "advbench", "matrix", "--models", spec, "--store", folder / "store"),
        *("--datasets", f"npz:path={folder / name}.npz", "--fit-data", f"npz:path={folder / name}-fit.npz"),
        *("--fit-samples", len(others), "--threats", "oblivious", "adaptive", "--eot", 2, "--export", exported, *axes),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([str(word) for word in command], env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    cells: list[dict[str, Any]] = json.loads(exported.read_text())["cells"]
    return cells


def _network(folder: Path, name: str) -> str:
    """Writes a network with random weights, unless it is there; returns its spec."""
    path = folder / name
    torch.manual_seed(0)
    if name == "vit":
        import timm

        if not path.is_dir():
            network = timm.create_model("vit_tiny_patch16_224", pretrained=False)
            timm.models.save_for_hf(network, path, safe_serialization=True)
        return f"timm:arch=vit_tiny_patch16_224,checkpoint={path}"
    import transformers

    if not path.is_dir():
        config = transformers.ResNetConfig(
            embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=1000
        )
        transformers.AutoModelForImageClassification.from_config(config).save_pretrained(path)
        transformers.ConvNextImageProcessor(size={"shortest_edge": 224}, crop_pct=0.875).save_pretrained(path)
    return f"hf:repo={path},resize=always"


def _photographs() -> tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.uint8]]]:
    """Two photographs to attack and others for fits, uint8, shape (n, 224, 224, 3)."""
    import foolbox
    from PIL import Image

    files = sorted((Path(foolbox.__file__).parent / "data").glob("imagenet_*.jpg"))
    arrays = {
        file.name: np.asarray(Image.open(file).convert("RGB").resize((256, 256)).crop((16, 16, 240, 240)))
        for file in files
    }
    attacked = np.stack([arrays.pop(name) for name in _ATTACKED])
    return attacked, np.stack(list(arrays.values())[:8])


if __name__ == "__main__":
    sys.exit(main())
