from __future__ import annotations

import random
import threading

import numpy as np
import pytest
import torch

from advbench_attacks.foolbox.generators import run_per_sample

CPU = torch.device("cpu")
SEEDS = [11, 22, 33, 44]

DRAWS = {
    "torch": torch.rand,
    "numpy": lambda n: torch.from_numpy(np.random.rand(n)),
    "python": lambda n: torch.tensor([random.random() for _ in range(n)]),
}


def run(craft, seeds, device, *, allow_batch):
    """Runs something that always comes to its end."""
    return run_per_sample(lambda positions: (craft(positions), False), seeds, device, allow_batch=allow_batch)


def states() -> tuple[object, ...]:
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()


@pytest.mark.parametrize("generator", DRAWS)
def test_what_draws_runs_sample_by_sample_each_from_its_own_seed(generator):
    sizes = []

    def craft(positions: list[int]) -> torch.Tensor:
        sizes.append(len(positions))
        return DRAWS[generator](len(positions))

    whole = run(craft, SEEDS, CPU, allow_batch=True)
    assert sizes == [1, 1, 1, 1]
    alone = [run(craft, [seed], CPU, allow_batch=True) for seed in SEEDS]
    assert torch.equal(torch.cat(alone), whole)
    assert len(set(whole.tolist())) == 4


@pytest.mark.parametrize("generator", DRAWS)
def test_the_global_generators_are_left_as_they_were_even_after_an_error(generator):
    def fails(positions: list[int]) -> torch.Tensor:
        DRAWS[generator](len(positions))
        raise ValueError("on purpose")

    before = states()
    run(lambda positions: DRAWS[generator](len(positions)), SEEDS, CPU, allow_batch=True)
    assert states() == before
    with pytest.raises(ValueError, match="on purpose"):
        run(fails, SEEDS, CPU, allow_batch=True)
    assert states() == before


def test_what_draws_nothing_runs_together_after_the_first():
    calls = []

    def craft(positions: list[int]) -> torch.Tensor:
        calls.append(positions)
        return torch.tensor(positions)

    assert run(craft, SEEDS, CPU, allow_batch=True).tolist() == [0, 1, 2, 3]
    assert calls == [[0], [1, 2, 3]]
    calls.clear()
    assert run(craft, SEEDS, CPU, allow_batch=False).tolist() == [0, 1, 2, 3]
    assert calls == [[0], [1], [2], [3]]


def test_samples_that_draw_where_the_first_did_not_are_done_again_alone():
    def craft(positions: list[int]) -> torch.Tensor:
        return torch.stack([torch.zeros(()) if position == 0 else torch.rand(()) for position in positions])

    expected = [torch.rand((), generator=torch.Generator().manual_seed(seed)) for seed in SEEDS[1:]]
    assert run(craft, SEEDS, CPU, allow_batch=True).tolist() == [0.0, *(float(one) for one in expected)]


def test_what_ends_before_it_may_have_drawn_runs_sample_by_sample():
    calls = []

    def craft(positions: list[int]) -> tuple[torch.Tensor, bool]:
        calls.append(positions)
        return torch.tensor(positions), True

    run_per_sample(craft, SEEDS, CPU, allow_batch=True)
    assert calls == [[0], [1], [2], [3]]


def test_threads_do_not_disturb_each_others_numbers():
    def craft(positions: list[int]) -> torch.Tensor:
        return torch.rand(len(positions), 1000)

    expected = run(craft, SEEDS, CPU, allow_batch=True)
    results: list[torch.Tensor] = []

    def work() -> None:
        results.extend(run(craft, SEEDS, CPU, allow_batch=True) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    assert all(torch.equal(result, expected) for result in results)
