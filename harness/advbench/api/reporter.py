"""The contract of reporters: what ``--export FILE`` writes for a suffix."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from advbench.api.component import Component

__all__ = ["Reporter"]


@dataclasses.dataclass(frozen=True)
class Reporter(Component):
    """Renders results as a file.

    Attributes:
        suffix: The file suffix that picks this reporter, such as ``.json``.
    """

    suffix: ClassVar[str]

    @abstractmethod
    def render(self, results: Mapping[str, Any]) -> str:
        """Renders the whole file.

        Args:
            results: What ``results.json`` holds (see the reference of its schema). Every number shown must
                come from it.
        """
