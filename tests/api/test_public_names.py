"""The public API is pinned: a name is removed only with a new API version."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from advbench import api, results

PUBLIC = {
    "API_VERSION", "Access", "AdaptiveView", "Answer", "Artefact",
    "Attack", "Budget", "Certificate", "ClassifierWrapper", "Component", "ContractError", "Corruption", "Crafted",
    "DataError", "DataSources",
    "Dataset", "Defense", "Detector",
    "Executor", "FitData", "Float32Network", "FunctionNetwork",
    "Geometric", "Goal", "LabelledImages", "LpBall", "Model", "Norm",
    "Parameter", "ParameterError",
    "Patch", "PerturbationSet", "Reporter", "RowAware",
    "SampleRandom", "StudyCommand",
    "Trainable", "TrainingJob", "TrainingLoop", "TrainingProgress", "Unrestricted", "UsageError", "Value",
    "WeightsError",
    "WorkerLostError", "answer", "are_probabilities", "artefact_file_of", "artefact_param",
    "bfloat16_helps", "can_reject", "clip_dust", "closest", "combine_logits", "features", "find_object", "for_rows",
    "goal_of", "goal_param", "has_approximate_gradients", "has_limited_queries", "hookimpl", "import_file",
    "is_stochastic", "load_checkpoint", "load_state", "load_weights", "log_shares", "most_access", "one_cycle", "param",
    "process_taint", "read_state_dict", "replace_atomically", "rotate_shift",
    "save_checkpoint", "save_weights", "sha256_file", "state_digest", "to_labels", "to_pixels", "transforms_images",
    "until_spent", "verified_digest", "widest_float", "write_atomically",
}  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert set(api.__all__) == PUBLIC
    assert all(hasattr(api, name) for name in PUBLIC)
    assert api.API_VERSION == 2


def test_an_old_name_works_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=r"api\.fill is deprecated.*use advbench\.api\.load_state"):
        assert api.fill is api.load_state  # type: ignore[attr-defined]


def test_every_name_is_imported_on_first_use_from_the_module_that_type_checkers_see() -> None:
    source = ast.parse(Path(api.__file__).read_text("utf-8"))
    blocks = (node for node in source.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    seen = {
        alias.name: line.module
        for line in next(blocks).body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    assert set(seen) == PUBLIC
    for name, module in seen.items():
        assert module is not None
        assert getattr(api, name) is getattr(sys.modules[module], name)
    assert set(dir(api)) >= PUBLIC
    with pytest.raises(AttributeError, match=r"has no attribute 'Atack'"):
        getattr(api, "Atack")  # noqa: B009  the name is wrong on purpose


def test_what_needs_no_torch_does_not_import_it() -> None:
    program = (
        "import sys\nimport advbench.api.component\nfrom advbench.api import Component, UsageError, hookimpl, param\n"
        "assert not {'torch', 'numpy'} & sys.modules.keys()\n"
        "from advbench.api import SampleRandom\nassert 'torch' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_results_are_imported_on_first_use_from_the_module_that_type_checkers_see() -> None:
    source = ast.parse(Path(results.__file__).read_text("utf-8"))
    blocks = (node for node in source.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    seen = {
        alias.name: line.module
        for line in next(blocks).body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    assert set(results.__all__) == {*seen, "read_records", "read_run", "run_suite"}
    for name, module in seen.items():
        assert module is not None
        assert getattr(results, name) is getattr(sys.modules[module], name)
