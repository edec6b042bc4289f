"""Packages that read and render stored results start without the libraries that compute."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "scipy", "sklearn", "skimage", "foolbox", "matplotlib", "PIL", "safetensors")


@pytest.mark.parametrize("package", ["analysis", "report", "specs", "store", "store.inventory", "discovery.registry"])
def test_a_package_does_not_import_heavy_libraries(package: str) -> None:
    program = f"import sys, advbench.{package}\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
