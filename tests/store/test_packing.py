"""Packed data is restored exactly and takes less space."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from advbench.store import Store, canonical_json, digest_of
from advbench.store.packing import PACK_LENGTH as LENGTH

KEY_INPUTS = {"kind": "cell"}
KEY = digest_of(KEY_INPUTS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def on_disk(store: Store) -> dict[str, Any]:
    (path,) = store.root.rglob("*.json")
    return json.loads(path.read_bytes())["record"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "values",
    [
        [True, False] * LENGTH,
        [0, 1] * LENGTH,
        [-128, 127] * LENGTH,
        [0, 128] * LENGTH,
        [-(2**31), 2**31 - 1] * LENGTH,
        [0, 2**63 - 1] * LENGTH,
        [0.1, 1e-300, -0.0, 1 / 3] * LENGTH,
    ],
    ids=["bool", "bits", "8 bits", "9 bits", "32 bits", "64 bits", "floats"],
)
def test_long_lists_of_numbers_are_packed_on_disk_and_restored_exactly(store: Store, values: list[Any]) -> None:
    store.write_record("cells", KEY_INPUTS, {"values": values, "draws": [values, values]})
    assert set(on_disk(store)["values"]) == {"packed", "base64"}
    for record in (store.read_record("cells", KEY), store.read_record("cells", KEY, arrays=True)):
        assert record is not None
        for read in (record["values"], *record["draws"]):
            as_list = read.tolist() if isinstance(read, np.ndarray) else read
            assert [repr(value) for value in as_list] == [repr(value) for value in values]


def test_packed_lists_can_be_read_as_arrays(store: Store) -> None:
    store.write_record("cells", KEY_INPUTS, {"values": [0.5] * LENGTH})
    record = store.read_record("cells", KEY, arrays=True)
    assert record is not None
    assert isinstance(record["values"], np.ndarray)


@pytest.mark.parametrize(
    "values",
    [
        [1] * (LENGTH - 1),
        [1, 2.0] * LENGTH,
        [1, True] * LENGTH,
        ["a"] * LENGTH,
        [None] * LENGTH,
        [2**63] * LENGTH,
        [],
        [[]],
    ],
    ids=["short", "mixed", "bits and bools", "texts", "nothing", "too large", "empty", "empty in a list"],
)
def test_other_lists_are_not_packed(store: Store, values: list[Any]) -> None:
    store.write_record("cells", KEY_INPUTS, {"values": values})
    assert on_disk(store)["values"] == values
    assert repr(store.read_record("cells", KEY)) == repr({"values": values})


def test_nan_is_an_error_in_long_lists_too(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON"):
        store.write_record("cells", KEY_INPUTS, {"values": [0.5, float("nan")] * LENGTH})


def test_records_of_earlier_versions_are_read(store: Store) -> None:
    record = {"values": list(range(3 * LENGTH)), "status": "ok"}
    store.write_record("cells", KEY_INPUTS, {})
    (path,) = store.root.rglob("*.json")
    path.write_bytes(canonical_json({"sha256": digest_of(record), "material": KEY_INPUTS, "record": record}))
    assert store.read_record("cells", KEY) == record


@pytest.mark.parametrize(
    "packed",
    [
        {"packed": "int8", "base64": "!"},
        {"packed": "int64", "base64": "AAA="},
        {"packed": "no type", "base64": "AAAA"},
        {"packed": "object", "base64": "AAAAAAAAAAA="},
        {"packed": 3, "base64": 4},
    ],
    ids=["no base64", "half a number", "no type", "objects", "numbers"],
)
def test_a_damaged_packed_list_is_a_miss_with_a_warning(
    store: Store, packed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    store.write_record("cells", KEY_INPUTS, {"values": packed})
    with caplog.at_level(logging.WARNING):
        assert store.read_record("cells", KEY) is None
    assert "is damaged" in caplog.text


def stored(store: Store, images: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Writes and reads images; returns them and the size of their file."""
    store.write_tensors(KEY_INPUTS, {"images": images}, {})
    read = store.read_tensors(KEY)
    assert read is not None
    (path,) = store.root.rglob("*.safetensors")
    return read[0]["images"], path.stat().st_size


def test_8_bit_images_take_one_byte_per_pixel_and_are_restored_exactly(store: Store) -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(40).reshape(10, 1, 32, 32).float() / 255
    read, size = stored(store, images)
    assert read.dtype == torch.float32
    assert torch.equal(read, images)
    assert size < 1.1 * images.numel() + 1000


@pytest.mark.parametrize("shift", [1e-7, -1e-7, 0.3], ids=["above", "below", "between"])
def test_images_with_other_levels_are_restored_exactly(store: Store, shift: float) -> None:
    images = torch.full((10, 1, 32, 32), 100 / 255)
    images[3, 0, 2, 1] += shift
    assert images[3, 0, 2, 1] != images[0, 0, 0, 0]
    read, size = stored(store, images)
    assert torch.equal(read, images)
    assert size > 4 * images.numel()
