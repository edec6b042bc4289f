from __future__ import annotations

import numpy as np
import pytest

from advbench_datasets.idx import decode_idx

TWO_BY_THREE = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 11, 12, 20, 21, 22])


def test_elements_are_in_row_major_order() -> None:
    decoded = decode_idx(TWO_BY_THREE)
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == [[10, 11, 12], [20, 21, 22]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an IDX file"),
        (b"<html>", "not an IDX file"),
        (bytes([0, 0, 13]) + TWO_BY_THREE[3:], "not an IDX file of unsigned bytes"),
        (TWO_BY_THREE[:10], "truncated within the header"),
        (TWO_BY_THREE[:-1], "17 bytes but its header says 18"),
        (TWO_BY_THREE + b"\0", "19 bytes but its header says 18"),
    ],
)
def test_incomplete_files_are_rejected(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_idx(content)
