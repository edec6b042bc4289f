"""Discovery: entry points to a registry of components."""

from __future__ import annotations

from advbench.discovery.identity import code_digests, dependency_versions, is_library, look_again, note_state
from advbench.discovery.loading import DISABLE_VARIABLE, FILES_VARIABLE, discover, named_files
from advbench.discovery.process_state import ProcessState, calls_watched, is_interruption, process_kept
from advbench.discovery.registry import KINDS, Plugin, Problem, Registered, Registry
from advbench.discovery.threads import threads_watched

__all__ = [
    "DISABLE_VARIABLE",
    "FILES_VARIABLE",
    "KINDS",
    "Plugin",
    "Problem",
    "ProcessState",
    "Registered",
    "Registry",
    "calls_watched",
    "code_digests",
    "dependency_versions",
    "discover",
    "is_interruption",
    "is_library",
    "look_again",
    "named_files",
    "note_state",
    "process_kept",
    "threads_watched",
]
