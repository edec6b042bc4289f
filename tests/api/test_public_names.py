"""The public API is pinned: a name is removed only with a new API version."""

from __future__ import annotations

import pytest

from advbench import api

PUBLIC = {
    "API_VERSION", "Access",
    "Attack", "Budget", "Component", "ContractError", "DataError", "DataSources", "Dataset", "Defense",
    "Executor", "Float32Network", "LabelledImages", "Model", "Norm", "Parameter", "ParameterError",
    "Reporter", "RowAware",
    "SampleRandom",
    "Trainable", "TrainingJob", "TrainingLoop", "TrainingProgress", "UsageError", "Value", "WeightsError",
    "WorkerLostError",
    "bfloat16_helps", "clip_dust", "closest", "find_object", "for_rows", "hookimpl", "import_file",
    "is_stochastic", "load_checkpoint", "load_state", "load_weights", "one_cycle", "param", "process_taint",
    "read_state_dict", "replace_atomically",
    "save_checkpoint", "save_weights", "sha256_file", "state_digest", "to_labels", "to_pixels",
    "verified_digest", "write_atomically",
}  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert set(api.__all__) == PUBLIC
    assert all(hasattr(api, name) for name in PUBLIC)
    assert api.API_VERSION == 1


def test_an_old_name_works_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=r"api\.fill is deprecated.*use advbench\.api\.load_state"):
        assert api.fill is api.load_state  # type: ignore[attr-defined]
