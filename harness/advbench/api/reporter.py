"""The contract of reporters, which write the file formats of ``--export FILE``."""

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
        suffix: The file suffix that selects this reporter, such as ``.json``.
    """

    suffix: ClassVar[str]

    @abstractmethod
    def render(self, results: Mapping[str, Any]) -> str:
        """Renders the complete file.

        Args:
            results: The content of ``results.json`` (see its documentation). Every number shown must come from it.
        """
