"""The surrogate of a cell under the threat ``transfer``, in manifests and in results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["attacker", "surrogate_of", "threat_name"]


def surrogate_of(described: Mapping[str, Any], manifest: Mapping[str, Any]) -> str | None:
    """The full spec of the surrogate on which the images of a manifest's cell are crafted; None under other threats."""
    if described["threat"] != "transfer":
        return None
    # Manifests of earlier versions have the only surrogate of the run as a setting alone.
    surrogate: str | None = described.get("surrogate", manifest.get("surrogate"))
    return surrogate


def attacker(cell: Mapping[str, Any]) -> str:
    """What identifies the threat of a cell and the surrogate if the run has several, for groups of cells."""
    return f"{cell['threat']} on {cell['surrogate']}" if "surrogate" in cell["short"] else str(cell["threat"])


def threat_name(cell: Mapping[str, Any]) -> str:
    """The threat of a cell for display, such as ``transfer on mnist-cnn`` if the run has several surrogates."""
    name = cell["short"].get("surrogate")
    return f"{cell['threat']} on {name}" if name else str(cell["threat"])
