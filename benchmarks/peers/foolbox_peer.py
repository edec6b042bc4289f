"""Foolbox's attacks."""

from __future__ import annotations

import torch

from advbench_attacks.foolbox import engine as foolbox_engine
from benchmarks.settings import Run, Settings

__all__ = ["attacks"]


def attacks(settings: Settings) -> dict[str, Run]:
    """Foolbox's attacks by contest.

    CW stops no step early, since Foolbox decides that on the loss of the whole batch. A minimal FGSM or PGD is the
    attack at every eps of a grid, of which each image keeps the first that fools the network: Foolbox 3 has no other.
    """
    foolbox = foolbox_engine.load()
    fgsm = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    pgd = foolbox.attacks.LinfPGD(abs_stepsize=settings.step_size, steps=settings.steps, random_start=True)
    in_proportion = foolbox.attacks.LinfPGD(rel_stepsize=1 / 30, steps=settings.steps, random_start=True)
    deepfool = foolbox.attacks.L2DeepFoolAttack(steps=settings.deepfool_steps, candidates=10, overshoot=0.02)
    cw = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=settings.search_steps, steps=settings.cw_steps, stepsize=0.01, initial_const=0.01,
        abort_early=False,
    )  # fmt: skip
    ddn = foolbox.attacks.DDNAttack(steps=settings.ddn_steps)
    grid = [part / settings.grid for part in range(1, settings.grid + 1)]

    def at(attack: object, epsilons: float | None) -> Run:
        def run(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            model = foolbox.PyTorchModel(network, bounds=(0, 1), device=images.device)
            found: torch.Tensor = attack(model, images, labels, epsilons=epsilons)[1]  # type: ignore[operator]
            return found

        return run

    def first(attack: object, epsilons: list[float]) -> Run:
        def run(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            model = foolbox.PyTorchModel(network, bounds=(0, 1), device=images.device)
            _, clipped, fooled = attack(model, images, labels, epsilons=epsilons)  # type: ignore[operator]
            # Of those that never are, the clean image.
            best = images.clone()
            for points, hit in zip(reversed(clipped), reversed(fooled), strict=True):
                best[hit] = points[hit]
            return best

        return run

    return {
        "fgsm": at(fgsm, settings.eps),
        "pgd": at(pgd, settings.eps),
        "deepfool": at(deepfool, None),
        "cw": at(cw, None),
        "ddn": at(ddn, None),
        "fgsm minimal": first(fgsm, grid),
        "pgd minimal": first(in_proportion, [eps for eps in grid if eps <= settings.pgd_reach]),
    }
