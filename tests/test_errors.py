"""The texts of messages."""

from __future__ import annotations

import pytest

from advbench.errors import listed, nearest, shorten_words


@pytest.mark.parametrize(
    ("word", "names", "near"),
    [
        ("run", ("matrix", "train", "reproduce"), ""),
        ("--name", ("--models", "--limit", "--plugin"), ""),
        ("--attakcs", ("--attacks", "--models"), "--attacks"),
        ("epsilon", ("eps", "steps", "step_size"), "eps"),
        ("jpge", ("jpeg", "tvm"), "jpeg"),
        ("nime", ("paper", "mine"), "mine"),
        ("--title", ("--suite", "--limit"), ""),
        ("attack", ("defenses", "attacks"), "attacks"),
        ("x" * 5000, ("jpeg",), ""),
        ("", ("--", "a"), ""),
    ],
)
def test_only_a_similar_name_is_suggested(word: str, names: tuple[str, ...], near: str) -> None:
    assert nearest(word, names) == near


def test_a_list_says_how_many_names_it_leaves_out() -> None:
    assert listed("abc") == "a, b, c"
    assert listed("abcde", most=3) == "a, b, c and 2 more"


def test_very_long_words_are_cut_and_lines_joined() -> None:
    assert (
        shorten_words("limit:\n" + "9" * 5000 + " is odd") == f"limit: {'9' * 60}…{'9' * 20} (5,000 characters) is odd"
    )
    assert shorten_words("/a/path" * 40) == "/a/path" * 40
