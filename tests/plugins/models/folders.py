"""Networks with random weights in folders in the layout of the Hugging Face hub, as the libraries write them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import transformers
from PIL import Image

VIT = "test_vit"  # timm's smallest transformer: images of 160 x 160
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def timm_folder(folder: Path, arch: str = VIT, **options: Any) -> torch.nn.Module:
    """Writes a network of timm with random weights and returns it."""
    torch.manual_seed(0)
    network: torch.nn.Module = timm.create_model(arch, pretrained=False, **options).eval()
    timm.models.save_for_hf(network, folder, safe_serialization=True)
    return network


def hf_resnet() -> torch.nn.Module:
    """A small ResNet of transformers with random weights, for five classes."""
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5
    )
    network: torch.nn.Module = transformers.AutoModelForImageClassification.from_config(config).eval()
    return network


def resnet_processor() -> Any:
    """The image processor of microsoft/resnet-18."""
    return transformers.ConvNextImageProcessor(
        size={"shortest_edge": 224}, crop_pct=0.875, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    )


def hf_folder(folder: Path, processor: Any = None) -> torch.nn.Module:
    """Writes a small ResNet of transformers and returns it."""
    transformers.logging.disable_progress_bar()
    network = hf_resnet()
    network.save_pretrained(folder)
    (processor or resnet_processor()).save_pretrained(folder)
    return network


def hf_vit(folder: Path, **options: Any) -> torch.nn.Module:
    """Writes a small vision transformer of transformers, for images of 32 x 32 pixels, and returns it."""
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        num_labels=10, **options,
    )  # fmt: skip
    network: torch.nn.Module = transformers.AutoModelForImageClassification.from_config(config).eval()
    network.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return network


def hub_cache(cache: Path, repository: str, folder: Path) -> Path:
    """Puts a folder's files where the hub's client keeps those of a repository; returns the folder of the commit."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder, root / "snapshots" / COMMIT)
    return root / "snapshots" / COMMIT


def photograph(width: int, height: int) -> Image.Image:
    """An image with structure on several scales."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height)), dtype=float)
    return Image.fromarray(np.clip(smooth + random.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8))


def pixels(picture: Image.Image) -> torch.Tensor:
    """A picture as images of advbench: float32 in [0, 1], shape (1, channels, height, width)."""
    array = np.atleast_3d(np.array(picture))
    return torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255
