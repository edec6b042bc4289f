from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.plugins.datasets.stand_ins import python_2_batch

from advbench_datasets import cifar10_batches, cifar_pickles
from advbench_datasets.cifar10_batches import decode_binary, decode_labels, decode_python, decode_sprite, records

LABELS = np.array([6, 9], dtype=np.uint8)
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
RECORDS = np.column_stack([LABELS, PIXELS])


@pytest.fixture
def two_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a sprite of two images a whole one."""
    monkeypatch.setattr(cifar10_batches, "IMAGES", 2)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_records_start_with_the_label() -> None:
    assert np.array_equal(records(LABELS, PIXELS), RECORDS)
    with pytest.raises(ValueError, match="1 labels and pixels of shape"):
        records(LABELS[:1], PIXELS)


def test_the_binary_version_is_read_unchanged() -> None:
    assert np.array_equal(decode_binary(RECORDS.tobytes()), RECORDS)
    with pytest.raises(ValueError, match="6145 bytes are not a whole number of records of 3073"):
        decode_binary(RECORDS.tobytes()[:-1])


@pytest.mark.parametrize("by_columns", [False, True])
def test_the_python_version_is_read(by_columns: bool) -> None:
    content = python_2_batch(LABELS.tobytes(), PIXELS.tobytes("F" if by_columns else "C"), by_columns=by_columns)
    with warnings.catch_warnings():
        # Of all that is pickled here, NumPy 2.4 complains about the way in which its dtype is.
        warnings.simplefilter("ignore")
        understood = pickle.loads(content, encoding="bytes")
    assert np.array_equal(understood[b"data"], PIXELS)
    decoded = decode_python(content)
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, RECORDS)


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_with_code_is_rejected_and_does_not_run(protocol: int, tmp_path: Path) -> None:
    content = pickle.dumps({b"labels": [6, 9], b"data": Harm(tmp_path / "harm")}, protocol=protocol)
    with pytest.raises(ValueError, match=r"UnpicklingError: it refers to "):
        decode_python(content)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "name", [b"builtins\neval", b"os\nsystem", b"numpy\nload", b"numpy\nndarray.tofile", b"__builtin__\neval"]
)
def test_only_the_names_of_arrays_are_resolved(name: bytes) -> None:
    with pytest.raises(ValueError, match="it refers to"):
        decode_python(b"c" + name + b"\n.")


def test_a_pickle_cannot_change_the_replacement_classes() -> None:
    before = dict(vars(cifar_pickles._PickledState))
    # Sets the state of the class itself, in both ways that a pickle can.
    for state in (b"}U\1xK\1s", b"N}U\1xK\1s\x86"):
        with pytest.raises(ValueError, match="no batch"):
            decode_python(b"\x80\x02cnumpy\nndarray\n" + state + b"b.")
    assert dict(vars(cifar_pickles._PickledState)) == before


WHOLE = python_2_batch(LABELS.tobytes(), PIXELS.tobytes())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        WHOLE[:-1],
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:100],
        python_2_batch(LABELS.tobytes(), PIXELS.tobytes()[:-2]),
        WHOLE.replace(b"labels", b"lables"),
        WHOLE.replace(b"data", b"date"),
        pickle.dumps([1, 2], protocol=2),
        pickle.dumps({"labels": [1], "data": b"1"}, protocol=2),
        RECORDS.tobytes(),
    ],
)
def test_other_pickles_are_rejected(content: bytes) -> None:
    with pytest.raises(ValueError, match="no batch of CIFAR's Python version"):
        decode_python(content)


def test_sprite_pixels_are_reordered_to_planes(two_images: None) -> None:
    sprite = PIXELS.reshape(2, 3, 1024).transpose(0, 2, 1)
    assert np.array_equal(decode_sprite(png(np.ascontiguousarray(sprite))), PIXELS)


def test_pillows_limit_on_pixels_is_neither_applied_nor_changed(
    two_images: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode_sprite(png(np.zeros((2, 1024, 3), np.uint8))).shape == (2, 3072)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no readable PNG"),
        (b"<html>", "no readable PNG"),
        (png(np.zeros((2, 1024, 3), np.uint8))[:-30], "no readable PNG"),
        (png(np.zeros((3, 1024, 3), np.uint8)), r"size \(1024, 3\)"),
        (png(np.zeros((2, 1024), np.uint8)), "mode L"),
    ],
    ids=["empty", "no image", "cut short", "another size", "grey"],
)
def test_incomplete_sprites_are_rejected(two_images: None, content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_sprite(content)


def test_labels_are_read() -> None:
    assert decode_labels(b"[3,8,8,0]").tolist() == [3, 8, 8, 0]


@pytest.mark.parametrize("content", [b"", b"[3,8", b"{}", b"8", b'["3"]', b"[3.0]", b"[256]", b"[-1]", b"\xff"])
def test_other_json_is_rejected(content: bytes) -> None:
    with pytest.raises(ValueError):
        decode_labels(content)
