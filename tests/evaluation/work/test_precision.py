"""The network answers in bfloat16 while it is attacked, and in float32 when it is judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TOY, Called

from advbench.api import Attack, Float32Network
from advbench.errors import UsageError
from advbench.evaluation.run.estimate import Estimate
from advbench.evaluation.work.networks import LowPrecision
from advbench.session.options import PRECISIONS as FLAG_PRECISIONS
from advbench.specs import PRECISIONS, load_suite
from advbench.store import Store

Toy = Callable[..., tuple[Called, dict[str, Any]]]


class Noting(torch.nn.Module):
    """A linear network that notes the type in which it multiplies."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(16, 3).requires_grad_(False)
        self.types: list[torch.dtype] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.layer(images.flatten(1))
        self.types.append(answer.dtype)
        return answer


def test_logits_and_gradients_are_float32_of_a_network_that_computes_in_bfloat16() -> None:
    torch.manual_seed(0)
    network = Noting()
    images = torch.rand(5, 1, 4, 4, requires_grad=True)
    logits = LowPrecision(network)(images)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    assert network.types == [torch.bfloat16]
    assert (logits.dtype, gradient.dtype) == (torch.float32, torch.float32)
    assert torch.allclose(logits, network(images), atol=0.05)
    assert network.types == [torch.bfloat16, torch.float32]
    assert torch.allclose(gradient.flatten(1), network.layer.weight[0], atol=0.01)


@pytest.mark.parametrize("threat", ["oblivious", "adaptive"])
def test_only_the_attack_sees_the_other_precision(toy: Toy, monkeypatch: pytest.MonkeyPatch, threat: str) -> None:
    seen: set[tuple[str, bool]] = set()
    during = "judging"
    answer = Float32Network.forward

    def noting(self: Float32Network, images: torch.Tensor) -> torch.Tensor:
        seen.add((during, torch.is_autocast_enabled("cpu")))
        return answer(self, images)

    def attacked(self: Attack, *given: Any) -> Any:
        nonlocal during
        during = "attacking"
        images = self.run(*given)
        during = "judging"
        return images, {}

    monkeypatch.setattr(Float32Network, "forward", noting)
    monkeypatch.setattr(Attack, "run_with_notes", attacked)
    monkeypatch.setattr(
        "advbench.session.run.estimate",
        lambda schedule, _: Estimate(0.0, dict.fromkeys(schedule.jobs, 0.0), rough=False),
    )
    called, _ = toy("--precision", "bf16", "--threats", threat, defenses=["toy-dim"])
    assert called.code == 0, called.err
    assert seen == {("attacking", True), ("judging", False)}


@pytest.mark.slow
def test_a_run_says_in_which_precision_it_was_attacked(toy: Toy) -> None:
    flags = {"attacks": ["toy-sign", "toy-minimal"]}
    _, plain = toy(**flags)
    called, results = toy("--precision", "bf16", **flags)
    assert "attacked in bf16, and scored in float32: minimal attacks (toy-minimal) stop where" in called.err
    assert ", attacked in bf16 and scored in float32" in called.out
    assert (plain["run"]["precision"], results["run"]["precision"]) == ("float32", "bf16")
    assert results["run"]["command"].endswith(f"--precision bf16 --plugin {TOY}")
    assert results["run"]["run"] != plain["run"]["run"]
    assert "0 in the store, 4 to do" in called.err, "what was crafted in float32 is not taken for it"
    called, _ = toy("--precision", "float32", **flags)
    assert "all 4 cells come from the store" in called.err
    assert "attacked in" not in called.out + called.err


def test_a_dry_run_says_so_too(toy: Toy) -> None:
    called, _ = toy("--precision", "bf16", "--dry-run")
    assert "the network is attacked in bf16, and scored in float32" in called.err


def test_images_attacked_in_another_precision_are_held_to_their_budget(toy: Toy, tmp_path: Path) -> None:
    toy("--precision", "bf16", defenses=["toy-keep"])
    store = Store(tmp_path / "store")
    (path,) = (tmp_path / "store" / "adversarial").rglob("*.safetensors")
    stored = store.read_tensors(path.stem)
    assert stored is not None
    assert stored[0]["images"].dtype == torch.float32
    assert 0.09 < float(stored[0]["linf"].max()) <= 0.1 + 2e-6
    assert "seen" not in stored[0], "what fooled the one network is no success that was lost on the other"
    called, _ = toy("--precision", "bf16", attacks=["toy-rogue:how=budget"])
    assert called.code == 1
    assert "its budget is 0.1" in called.out


def test_a_suite_may_say_the_precision(tmp_path: Path) -> None:
    file = tmp_path / "suite.toml"
    file.write_text('precision = "bf16"\n')
    assert load_suite(str(file)).precision == "bf16"
    for wrong in ('"bfloat16"', "16", "[1]"):
        file.write_text(f"precision = {wrong}\n")
        with pytest.raises(UsageError, match="precision must be one of float32, bf16"):
            load_suite(str(file))


def test_the_flag_takes_what_suites_take(call: Callable[..., Called]) -> None:
    assert FLAG_PRECISIONS == PRECISIONS
    assert "--precision: unknown 'fp16'; did you mean 'bf16'?" in call("matrix", "--precision", "fp16").error_line()
