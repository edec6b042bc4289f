"""Everything that plugin authors import.

The smallest plugin is a module with one component and one hook::

    from dataclasses import dataclass

    from advbench.api import Defense, hookimpl, param


    @dataclass(frozen=True)
    class Dim(Defense):
        \"\"\"Darkens the image.\"\"\"

        name = "dim"
        factor: float = param(0.9, min=0, max=1, help="factor by which every pixel is multiplied")

        def apply(self, images, rng):
            return images * self.factor


    @hookimpl
    def register_defenses(register):
        register(Dim)

and an entry point in its ``pyproject.toml``::

    [project.entry-points.advbench]
    dim = "dim_plugin"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from advbench._deprecated import renamed_attributes
from advbench._lazy import lazy_names

if TYPE_CHECKING:
    from advbench.api.attack import Access, AdaptiveView, Attack, Budget, Crafted, most_access
    from advbench.api.checkpoints import load_state, read_state_dict
    from advbench.api.commands import StudyCommand
    from advbench.api.component import Component, closest
    from advbench.api.dataset import Dataset, DataSources, LabelledImages
    from advbench.api.defense import Answer, Certificate, Defense, transforms_images
    from advbench.api.detector import Detector
    from advbench.api.devices import widest_float
    from advbench.api.executor import Executor, WorkerLostError, process_taint
    from advbench.api.files import replace_atomically, sha256_file, write_atomically
    from advbench.api.fit import Artefact, FitData, artefact_file_of, artefact_param
    from advbench.api.float32_network import Float32Network
    from advbench.api.function_network import FunctionNetwork
    from advbench.api.geometry import rotate_shift
    from advbench.api.goal import Goal, goal_of, goal_param
    from advbench.api.hookspecs import API_VERSION, hookimpl
    from advbench.api.model import Model
    from advbench.api.modules import find_object, import_file
    from advbench.api.network_features import features
    from advbench.api.parameters import Parameter, Value, param
    from advbench.api.perturbation import Corruption, Geometric, LpBall, Norm, Patch, PerturbationSet, Unrestricted
    from advbench.api.pixels import clip_dust, to_labels, to_pixels
    from advbench.api.randomness import SampleRandom
    from advbench.api.reporter import Reporter
    from advbench.api.rows import (
        ClassifierWrapper,
        RowAware,
        answer,
        can_reject,
        for_rows,
        has_approximate_gradients,
        has_limited_queries,
        is_stochastic,
        until_spent,
    )
    from advbench.api.state import state_digest
    from advbench.api.training import Trainable, TrainingJob, TrainingProgress, load_checkpoint, save_checkpoint
    from advbench.api.training_loop import TrainingLoop, bfloat16_helps, one_cycle
    from advbench.api.votes import are_probabilities, combine_logits, log_shares
    from advbench.api.weights import load_weights, save_weights, verified_digest
    from advbench.errors import ContractError, DataError, ParameterError, UsageError, WeightsError

__all__ = [
    "API_VERSION",
    "Access",
    "AdaptiveView",
    "Answer",
    "Artefact",
    "Attack",
    "Budget",
    "Certificate",
    "ClassifierWrapper",
    "Component",
    "ContractError",
    "Corruption",
    "Crafted",
    "DataError",
    "DataSources",
    "Dataset",
    "Defense",
    "Detector",
    "Executor",
    "FitData",
    "Float32Network",
    "FunctionNetwork",
    "Geometric",
    "Goal",
    "LabelledImages",
    "LpBall",
    "Model",
    "Norm",
    "Parameter",
    "ParameterError",
    "Patch",
    "PerturbationSet",
    "Reporter",
    "RowAware",
    "SampleRandom",
    "StudyCommand",
    "Trainable",
    "TrainingJob",
    "TrainingLoop",
    "TrainingProgress",
    "Unrestricted",
    "UsageError",
    "Value",
    "WeightsError",
    "WorkerLostError",
    "answer",
    "are_probabilities",
    "artefact_file_of",
    "artefact_param",
    "bfloat16_helps",
    "can_reject",
    "clip_dust",
    "closest",
    "combine_logits",
    "features",
    "find_object",
    "for_rows",
    "goal_of",
    "goal_param",
    "has_approximate_gradients",
    "has_limited_queries",
    "hookimpl",
    "import_file",
    "is_stochastic",
    "load_checkpoint",
    "load_state",
    "load_weights",
    "log_shares",
    "most_access",
    "one_cycle",
    "param",
    "process_taint",
    "read_state_dict",
    "replace_atomically",
    "rotate_shift",
    "save_checkpoint",
    "save_weights",
    "sha256_file",
    "state_digest",
    "to_labels",
    "to_pixels",
    "transforms_images",
    "until_spent",
    "verified_digest",
    "widest_float",
    "write_atomically",
]

if not TYPE_CHECKING:  # so that type checkers see the imports above alone
    _lazy_name, __dir__ = lazy_names(
        __name__,
        {
            "advbench.api.attack": (
                "Access",
                "AdaptiveView",
                "Attack",
                "Budget",
                "Crafted",
                "most_access",
            ),
            "advbench.api.checkpoints": (
                "load_state",
                "read_state_dict",
            ),
            "advbench.api.commands": ("StudyCommand",),
            "advbench.api.component": (
                "Component",
                "closest",
            ),
            "advbench.api.dataset": (
                "Dataset",
                "DataSources",
                "LabelledImages",
            ),
            "advbench.api.defense": (
                "Answer",
                "Certificate",
                "Defense",
                "transforms_images",
            ),
            "advbench.api.detector": ("Detector",),
            "advbench.api.devices": ("widest_float",),
            "advbench.api.executor": (
                "Executor",
                "WorkerLostError",
                "process_taint",
            ),
            "advbench.api.files": (
                "replace_atomically",
                "sha256_file",
                "write_atomically",
            ),
            "advbench.api.fit": (
                "Artefact",
                "FitData",
                "artefact_file_of",
                "artefact_param",
            ),
            "advbench.api.geometry": ("rotate_shift",),
            "advbench.api.goal": (
                "Goal",
                "goal_of",
                "goal_param",
            ),
            "advbench.api.hookspecs": (
                "API_VERSION",
                "hookimpl",
            ),
            "advbench.api.model": ("Model",),
            "advbench.api.modules": (
                "find_object",
                "import_file",
            ),
            "advbench.api.float32_network": ("Float32Network",),
            "advbench.api.function_network": ("FunctionNetwork",),
            "advbench.api.network_features": ("features",),
            "advbench.api.parameters": (
                "Parameter",
                "Value",
                "param",
            ),
            "advbench.api.perturbation": (
                "Corruption",
                "Geometric",
                "LpBall",
                "Norm",
                "Patch",
                "PerturbationSet",
                "Unrestricted",
            ),
            "advbench.api.pixels": (
                "clip_dust",
                "to_labels",
                "to_pixels",
            ),
            "advbench.api.randomness": ("SampleRandom",),
            "advbench.api.reporter": ("Reporter",),
            "advbench.api.rows": (
                "ClassifierWrapper",
                "RowAware",
                "answer",
                "can_reject",
                "for_rows",
                "has_approximate_gradients",
                "has_limited_queries",
                "is_stochastic",
                "until_spent",
            ),
            "advbench.api.state": ("state_digest",),
            "advbench.api.training": (
                "Trainable",
                "TrainingJob",
                "TrainingProgress",
                "load_checkpoint",
                "save_checkpoint",
            ),
            "advbench.api.training_loop": (
                "TrainingLoop",
                "bfloat16_helps",
                "one_cycle",
            ),
            "advbench.api.votes": ("are_probabilities", "combine_logits", "log_shares"),
            "advbench.api.weights": (
                "load_weights",
                "save_weights",
                "verified_digest",
            ),
            "advbench.errors": (
                "ContractError",
                "DataError",
                "ParameterError",
                "UsageError",
                "WeightsError",
            ),
        },
    )
    __getattr__ = renamed_attributes(__name__, "0.2", "0.4", _lazy_name, fill="load_state")
