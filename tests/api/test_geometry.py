"""Rotations and shifts against closed forms and torch's own sampling."""

from __future__ import annotations

import math

import pytest
import torch

from advbench.api import rotate_shift


def images(count: int = 3, shape: tuple[int, int, int] = (3, 7, 9)) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def at(value: float, count: int = 3) -> torch.Tensor:
    return torch.full((count,), value)


def test_no_rotation_and_no_shift_return_the_images_themselves() -> None:
    given = images()
    for padding in ("zeros", "border", "reflection"):
        for interpolation in ("bilinear", "nearest"):
            same = rotate_shift(given, at(0), at(0), at(0), interpolation=interpolation, padding=padding)
            assert torch.equal(same, given)
    full_turn = rotate_shift(given, at(360), at(0), at(0))
    assert torch.equal(full_turn, given)


def test_whole_shifts_move_pixels_right_and_down() -> None:
    given = images()
    moved = rotate_shift(given, at(0), at(2), at(-1))
    assert torch.equal(moved[..., :-1, 2:], given[..., 1:, :-2])
    assert not moved[..., -1, :].any()
    assert not moved[..., :2].any()
    kept = rotate_shift(given, at(0), at(2), at(0), padding="border")
    assert torch.equal(kept[..., :2], given[..., :1].expand(-1, -1, -1, 2))
    mirrored = rotate_shift(given, at(0), at(2), at(0), padding="reflection")
    assert torch.equal(mirrored[..., :2], given[..., [2, 1]])


def test_a_quarter_turn_is_counter_clockwise_and_exact() -> None:
    given = images(shape=(1, 8, 8))
    assert torch.equal(rotate_shift(given, at(90), at(0), at(0)), given.rot90(1, (2, 3)))
    assert torch.equal(rotate_shift(given, at(-90), at(0), at(0)), given.rot90(-1, (2, 3)))


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_each_sample_has_its_own_motion_rendered_as_grid_sample_does(interpolation: str, padding: str) -> None:
    given, angle = images(), torch.tensor([13.0, -31.7, 64.2])
    dx, dy = torch.tensor([0.3, -1.6, 2.0]), torch.tensor([-0.7, 1.2, 0.4])
    cosine, sine = (angle * (math.pi / 180)).cos(), (angle * (math.pi / 180)).sin()
    height, width = given.shape[2:]
    # Normalised coordinates of the source: a rotation of (pixel - centre - shift), scaled for the image's sides.
    matrix = torch.stack(
        (
            torch.stack((cosine, -sine * height / width, (-cosine * dx + sine * dy) * 2 / width), dim=1),
            torch.stack((sine * width / height, cosine, (-sine * dx - cosine * dy) * 2 / height), dim=1),
        ),
        dim=1,
    )
    grid = torch.nn.functional.affine_grid(matrix, list(given.shape), align_corners=False)
    expected = torch.nn.functional.grid_sample(
        given, grid, mode=interpolation, padding_mode=padding, align_corners=False
    )
    rendered = rotate_shift(given, angle, dx, dy, interpolation=interpolation, padding=padding)
    assert (rendered - expected).abs().max() < 1e-5
    alone = rotate_shift(given[1:2], angle[1:2], dx[1:2], dy[1:2], interpolation=interpolation, padding=padding)
    assert torch.equal(alone[0], rendered[1])


def test_values_stay_in_range_and_gradients_reach_the_images() -> None:
    white = torch.ones(2, 1, 6, 6, requires_grad=True)
    turned = rotate_shift(white, at(33, 2), at(0.5, 2), at(0.1, 2), padding="border")
    assert torch.equal(turned, torch.ones_like(turned))
    (gradient,) = torch.autograd.grad(turned.sum(), white)
    assert gradient.sum() == pytest.approx(2 * 36, rel=1e-5)


def test_other_interpolations_and_paddings_are_refused() -> None:
    with pytest.raises(ValueError, match="interpolation='cubic'; there are bilinear and nearest"):
        rotate_shift(images(), at(0), at(0), at(0), interpolation="cubic")
    with pytest.raises(ValueError, match="padding='wrap'; there are zeros, border and reflection"):
        rotate_shift(images(), at(0), at(0), at(0), padding="wrap")
