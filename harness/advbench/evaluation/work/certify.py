"""Certifying: classes that are guaranteed within a radius around each clean image."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from advbench.api import Artefact, Certificate, ContractError, SampleRandom
from advbench.contracts.certificates import check_certificate
from advbench.contracts.images import check_unchanged
from advbench.errors import blamed
from advbench.evaluation.plan.keys import fitted_keys
from advbench.evaluation.plan.tasks import CertifyTask
from advbench.evaluation.work.artefacts import chain_artefacts
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.evaluation.work.workspace import Workspace

__all__ = ["certify"]


def certify(workspace: Workspace, task: CertifyTask, progress: Callable[[int], None]) -> None:
    """Certifies some samples, and stores their labels, certified classes and radii.

    Raises:
        ContractError: The defense or the model broke its contract.
    """
    images, labels = workspace.images(task.dataset).take(task.ids)
    began = time.perf_counter()
    fitted = chain_artefacts(workspace, task.defense, fitted_keys(task.key_inputs))
    classes: list[int] = []
    radii: list[float] = []
    for start in range(0, len(task.ids), workspace.batch_size):
        part = slice(start, start + workspace.batch_size)
        rng = SampleRandom(task.seed, "certificate", task.ids[part], workspace.device)
        certificate = certify_batch(
            workspace, task.model, task.defense, images[part].to(workspace.device), rng, fitted=fitted
        )
        classes += certificate.classes.tolist()
        radii += certificate.radii.tolist()
        progress(len(classes))
    seconds = round(time.perf_counter() - began, 6)
    workspace.check_network(task.model, f"defense {task.defense!r}", model_only=task.defense == "none")
    workspace.check_process(f"defense {task.defense!r}")
    known = workspace.classes(task.model, task.dataset)
    if (largest := max(classes, default=-1)) >= known and workspace.model(task.model).num_classes is not None:
        label = f"model {task.model!r}" if task.defense == "none" else f"defense {task.defense!r}"
        raise ContractError(f"{label} certified class {largest}, and the model has classes 0 to {known - 1}")
    record = {"labels": labels.tolist(), "classes": classes, "radii": radii, "status": "ok", "seconds": seconds}
    workspace.store.write_record("certificates", task.key_inputs, record)


@torch.no_grad()
def certify_batch(
    workspace: Workspace,
    model: str,
    defense: str,
    images: torch.Tensor,
    rng: SampleRandom,
    *,
    fitted: Sequence[Artefact | None] = (),
) -> Certificate:
    """The certificates of a batch: those of the first part of the defense, or of the model if there is no defense.

    Args:
        workspace: Where the components are loaded.
        model: The model's spec.
        defense: The defense's spec.
        images: Shape (batch, channels, height, width).
        rng: The samples' random streams.
        fitted: What the parts of the defense have fitted to data.
    """
    chain, network = workspace.chain(defense), workspace.network(model)
    if not chain.identity:
        return ChainPass(chain, network, workspace.batch_size, fitted).certify(images, rng)
    component, given = workspace.model(model), images.clone()
    label = f"model {component.name!r}"
    with blamed(label):
        returned = component.certify(network, given, rng)
    check_unchanged(label, "images", images, given)
    return check_certificate(label, returned, images)
