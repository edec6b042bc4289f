"""Messages name options as the caller writes them."""

from __future__ import annotations

import pytest

from advbench.option_names import called_from_python, option


@pytest.mark.parametrize(
    ("name", "values", "flag", "argument"),
    [
        ("eot", (), "--eot", "eot"),
        ("cell_timeout", (2.5,), "--cell-timeout 2.5", "cell_timeout=2.5"),
        ("executor", ("dask",), "--executor dask", "executor='dask'"),
        ("threats", ("oblivious", "adaptive"), "--threats oblivious adaptive", "threats=['oblivious', 'adaptive']"),
    ],
)
def test_an_option_is_a_flag_or_a_keyword_argument(
    name: str, values: tuple[object, ...], flag: str, argument: str
) -> None:
    assert option(name, *values) == flag
    with called_from_python():
        assert option(name, *values) == argument
    assert option(name, *values) == flag
