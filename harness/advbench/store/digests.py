"""Content addresses: SHA-256 of canonical JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

__all__ = ["canonical_json", "digest_of", "ids_digest"]


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical_json(key_inputs: Any) -> bytes:
    """JSON with sorted keys, without spaces and NaN, so that equal values give equal bytes."""
    return _ENCODER.encode(key_inputs).encode()


def digest_of(key_inputs: Any) -> str:
    """SHA-256 of the canonical JSON, as hexadecimal text."""
    return hashlib.sha256(canonical_json(key_inputs)).hexdigest()


def ids_digest(ids: Sequence[int]) -> str:
    """SHA-256 of a sequence of sample ids."""
    return digest_of([int(sample_id) for sample_id in ids])
