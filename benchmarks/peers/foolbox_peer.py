"""Attacks of Foolbox."""

from __future__ import annotations

import torch

from advbench_attacks.foolbox import engine as foolbox_engine
from benchmarks.settings import Run, Settings

__all__ = ["attacks"]


def attacks(settings: Settings) -> dict[str, Run]:
    """Returns Foolbox's attacks by comparison.

    CW runs without early abort, which would depend on the loss of the whole batch. Minimal FGSM and PGD run at every
    eps of a grid, and each image keeps the first success: Foolbox 3 has no such search.
    """
    foolbox = foolbox_engine.load()
    fgsm = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    pgd = foolbox.attacks.LinfPGD(abs_stepsize=settings.step_size, steps=settings.steps, random_start=True)
    relative_pgd = foolbox.attacks.LinfPGD(rel_stepsize=1 / 30, steps=settings.steps, random_start=True)
    deepfool = foolbox.attacks.L2DeepFoolAttack(steps=settings.deepfool_steps, candidates=10, overshoot=0.02)
    cw = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=settings.search_steps, steps=settings.cw_steps, stepsize=0.01, initial_const=0.01,
        abort_early=False,
    )  # fmt: skip
    ddn = foolbox.attacks.DDNAttack(steps=settings.ddn_steps)
    fmn = foolbox.attacks.L2FMNAttack(steps=settings.ddn_steps)
    spatial = foolbox.attacks.SpatialAttack(
        max_translation=3, max_rotation=30, num_translations=5, num_rotations=11, grid_search=True
    )
    grid = [part / settings.grid for part in range(1, settings.grid + 1)]

    def run_at(attack: object, epsilons: float | None) -> Run:
        def run(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            model = foolbox.PyTorchModel(network, bounds=(0, 1), device=images.device)
            adversarial: torch.Tensor = attack(model, images, labels, epsilons=epsilons)[1]  # type: ignore[operator]
            return adversarial

        return run

    def run_grid(attack: object, epsilons: list[float]) -> Run:
        def run(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            model = foolbox.PyTorchModel(network, bounds=(0, 1), device=images.device)
            _, clipped, successes = attack(model, images, labels, epsilons=epsilons)  # type: ignore[operator]
            # Without a success, the clean image remains.
            best = images.clone()
            for points, is_adv in zip(reversed(clipped), reversed(successes), strict=True):
                best[is_adv] = points[is_adv]
            return best

        return run

    return {
        "fgsm": run_at(fgsm, settings.eps),
        "pgd": run_at(pgd, settings.eps),
        "deepfool": run_at(deepfool, None),
        "cw": run_at(cw, None),
        "ddn": run_at(ddn, None),
        "fmn": run_at(fmn, None),
        "rotate-shift": run_at(spatial, None),
        "fgsm minimal": run_grid(fgsm, grid),
        "pgd minimal": run_grid(relative_pgd, [eps for eps in grid if eps <= settings.pgd_max_eps]),
    }
