"""Every sample has its own random stream."""

from __future__ import annotations

import pytest
import torch
from benchmarks.simulated_device import DEVICE, SimulatedDevice, to_device, to_host

from advbench.api import SampleRandom


def test_a_sample_gets_the_same_numbers_in_any_batch() -> None:
    together = SampleRandom(5, "attack", [10, 11, 12]).normal(2, 3)
    alone = torch.cat([SampleRandom(5, "attack", [i]).normal(2, 3) for i in (10, 11, 12)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("other", [(6, "attack", 10), (5, "defense", 10), (5, "attack", 11)])
def test_seed_purpose_and_sample_each_give_another_stream(other: tuple[int, str, int]) -> None:
    seed, purpose, sample = other
    assert not torch.equal(SampleRandom(5, "attack", [10]).uniform(8), SampleRandom(seed, purpose, [sample]).uniform(8))


def test_draws_continue_in_a_part_of_the_batch() -> None:
    batch, reference = SampleRandom(0, "x", [1, 2, 3]), SampleRandom(0, "x", [3])
    batch.uniform(4)
    reference.uniform(4)
    assert torch.equal(batch[torch.tensor([False, False, True])].uniform(4), reference.uniform(4))


def test_derived_streams_do_not_depend_on_the_position_of_their_parent() -> None:
    fresh, used = SampleRandom(0, "x", [1]), SampleRandom(0, "x", [1])
    used.uniform(100)
    assert torch.equal(fresh.derive("part").uniform(5), used.derive("part").uniform(5))
    assert not torch.equal(fresh.derive("part").uniform(5), fresh.derive("other").uniform(5))


def test_draws_have_the_documented_ranges_and_types() -> None:
    rng = SampleRandom(1, "x", range(50))
    uniform = rng.uniform(100, low=-2, high=3)
    assert uniform.dtype == torch.float32
    assert -2 <= float(uniform.min()) < -1.9 < 2.9 < float(uniform.max()) <= 3
    assert abs(float(rng.normal(500, mean=1, std=2).std()) - 2) < 0.05
    assert abs(float(rng.bernoulli(0.25, 500).float().mean()) - 0.25) < 0.02
    integers = rng.integers(2, 5, 100)
    assert set(integers.unique().tolist()) == {2, 3, 4}
    assert len(set(rng.seeds())) == 50


def test_the_streams_have_not_changed_since_results_were_stored() -> None:
    # If this fails, the streams have changed, and stored results differ from what a run computes. Raise store.SCHEMA.
    drawn = SampleRandom(0, "attack", [7]).uniform(3)
    assert drawn.tolist() == [[0.6775003671646118, 0.01084965467453003, 0.4498472213745117]]


def test_spawned_streams_are_new_at_every_call_and_depend_on_the_sample_alone() -> None:
    batch = SampleRandom(0, "test", [4, 7, 9])
    first, second = batch.spawn().uniform(3), batch.spawn().uniform(3)
    assert not torch.equal(first, second)
    alone = SampleRandom(0, "test", [7])
    assert torch.equal(
        alone.spawn().derive("part").uniform(3), SampleRandom(0, "test", [4, 7]).spawn().derive("part").uniform(3)[1:]
    )
    assert torch.equal(alone.spawn().uniform(3)[0], second[1])


def test_spawning_several_streams_equals_several_calls() -> None:
    one_by_one, together = SampleRandom(0, "test", [4, 7]), SampleRandom(0, "test", [4, 7])
    expected = torch.cat([one_by_one.spawn().uniform(3) for _ in range(3)])
    assert torch.equal(together.spawn(3).uniform(3), expected)
    assert torch.equal(together.spawn().uniform(3), one_by_one.spawn().uniform(3))


def test_a_sample_that_occurs_twice_in_a_batch_has_two_spawned_streams() -> None:
    twice = SampleRandom(0, "test", [4, 7])[torch.tensor([1, 0, 1])].spawn().uniform(3)
    assert not torch.equal(twice[0], twice[2])


def test_streams_record_draws_from_themselves_and_from_derived_streams() -> None:
    for draw in (
        lambda rng: rng.uniform(2),
        lambda rng: rng.seeds(),
        lambda rng: rng.spawn(),
        lambda rng: rng[[1]].normal(),
        lambda rng: rng.derive("part")[[0]].integers(0, 5),
    ):
        rng = SampleRandom(0, "attack", [1, 2, 3])
        rng.derive("unused")
        assert not rng.drawn
        draw(rng)
        assert rng.drawn
    part = rng.derive("part")
    assert not part.drawn


def test_indices_on_an_accelerator_are_copied_once() -> None:
    rng = SampleRandom(0, "test", [5, 6, 7])
    with SimulatedDevice() as device:
        rows = to_device(torch.tensor([2, 0]))
        assert [rng[rows].ids for _ in range(3)] == [[7, 5]] * 3
        assert device.waits.total() == 1
        rows.fill_(1)
        assert rng[rows].ids == [6, 6]
        assert device.waits.total() == 2


def test_numbers_reach_an_accelerator_without_a_wait() -> None:
    with SimulatedDevice() as device:
        drawn = SampleRandom(0, "test", [5, 6], DEVICE).uniform(3)
        assert drawn.device == DEVICE
        assert not device.waits
    assert torch.equal(to_host(drawn), SampleRandom(0, "test", [5, 6]).uniform(3))
