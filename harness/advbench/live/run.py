"""A run whose components may have names of the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advbench.session.run import MatrixRun
from advbench.session.session import Session
from advbench.specs import Suite

__all__ = ["NamedRun"]


class NamedRun(MatrixRun):
    """The run of one suite, shown with the user's names.

    Args:
        session: As for :class:`MatrixRun`.
        suite: As for :class:`MatrixRun`.
        command: As for :class:`MatrixRun`.
        aliases: The user's names by axis and full spec. They replace the short specs; they change no result.
    """

    def __init__(self, session: Session, suite: Suite, command: str, aliases: Mapping[tuple[str, str], str]) -> None:
        super().__init__(session, suite, command)
        self.aliases = aliases

    def _write_manifest(self) -> dict[str, Any]:
        manifest = super()._write_manifest()
        if self.aliases:
            for described in manifest["cells"]:
                for kind in described["short"]:
                    name = self.aliases.get((f"{kind}s", described[kind]))
                    if name is not None:
                        described["short"][kind] = name
            self.session.store.write_manifest(self.plan.run_id, manifest)
        return manifest
