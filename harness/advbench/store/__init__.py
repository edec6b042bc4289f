"""The store: content-addressed results on disk."""

from __future__ import annotations

from advbench.store.digests import canonical_json, digest_of, ids_digest
from advbench.store.store import SCHEMA, Store

__all__ = ["SCHEMA", "Store", "canonical_json", "digest_of", "ids_digest"]
