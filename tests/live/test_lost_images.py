"""What :meth:`advbench.Results.adversarial` says of cells whose images are not in the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import advbench
from advbench.errors import UsageError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("how", ["changed", "deleted"])
def test_images_that_are_lost_can_be_computed_again(
    evaluate: Callable[..., advbench.Results], tmp_path: Path, how: str
) -> None:
    results = evaluate()
    (chunk,) = (tmp_path / "store" / "adversarial").rglob("*.safetensors")
    before = results.adversarial().images
    chunk.unlink() if how == "deleted" else chunk.write_bytes(b"")
    with pytest.raises(UsageError, match=r"no longer in the store; to compute them again, repeat .* rerun='all'"):
        evaluate().adversarial()
    assert (evaluate(rerun="all").adversarial().images == before).all()


def test_a_cell_that_failed_says_why_it_has_no_images(evaluate: Callable[..., advbench.Results]) -> None:
    results = evaluate(attacks="toy-rogue", defenses="toy-keep")
    with pytest.raises(UsageError, match=r"failed and has no images: .*this attack always fails"):
        results.adversarial()
