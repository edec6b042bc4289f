"""Leaderboards in LaTeX, using booktabs."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from advbench.api.reporter import Reporter
from advbench.printable import one_line
from advbench.report.board import Board, BoardCell, Column, make_boards, percent
from advbench.report.footer import READING, attack_settings, failures, provenance

__all__ = ["Latex", "escape"]

_HEAD = r"""% Leaderboards of advbench. \input this file in a document, or compile it on its own.
% A document that includes it needs \usepackage{booktabs,graphicx}.
% For tables without intervals, put \newcommand{\advbenchci}[2]{} before it.
\providecommand{\advbenchci}[2]{\,{\tiny[#1, #2]}}
\makeatletter
\ifx\@nodocument\relax\else
  \documentclass{article}
  \usepackage[utf8]{inputenc}
  \IfFileExists{lmodern.sty}{\usepackage[T1]{fontenc}\usepackage{lmodern}}{}% small installations lack it
  \usepackage[margin=2cm]{geometry}
  \usepackage{booktabs,graphicx}
  \begin{document}
  \def\advbenchalone{}
\fi
\makeatother"""

_TAIL = r"""\ifdefined\advbenchalone\def\advbenchend{\end{document}}\else\let\advbenchend\relax\fi
\advbenchend"""

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"{\char34}", "'": "{'}", "`": r"{\char96}", "-": "{-}", "?": "{?}",
    "!": "{!}", ",": "{,}", "[": "{[}", "]": "{]}",
    "†": r"$^\dagger$", "∞": r"$\infty$", "≤": r"$\le$", "≥": r"$\ge$", "±": r"$\pm$", "×": r"$\times$",
    "·": r"$\cdot$", "–": "--", "—": "---", "…": r"\dots{}", "’": "{'}", "→": r"$\to$", "°": r"$^\circ$",
}  # fmt: skip

_LETTERS = "ßæøÆØ"
"""Non-ASCII letters without an accent that LaTeX has in every font encoding."""

_BREAKS = re.compile(r"([,:=+/ ])")


@dataclasses.dataclass(frozen=True)
class Latex(Reporter):
    """Leaderboards as tables for a paper."""

    name = "latex"
    suffix = ".tex"

    def render(self, results: Mapping[str, Any]) -> str:
        """Renders all leaderboards with their notes, followed by failures and provenance."""
        tables = [_table(board, number) for number, board in enumerate(make_boards(results), 1)]
        return "\n\n".join([_HEAD, *tables, _below(results), _TAIL]) + "\n"


def escape(text: str) -> str:
    """Escapes text for LaTeX. A character that the usual fonts lack is replaced by its code point."""
    return "".join(_SPECIAL.get(character) or _plain(character) for character in one_line(text))


def _plain(character: str) -> str:
    letter = unicodedata.normalize("NFD", character)[0]
    if " " <= character <= "~" or character in _LETTERS or (letter.isascii() and letter.isalpha() and character <= "ÿ"):
        return character
    return f"{{[}}U+{ord(character):04X}{{]}}"


def _table(board: Board, number: int) -> str:
    heads = " & ".join(_heading(column, "r" if place else "l") for place, column in enumerate(board.columns))
    caption = f"{escape(board.title)}. {' '.join(escape(note) for note in board.notes)}".strip()
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{caption}}}\label{{tab:advbench-{number}}}",
            r"\vskip 6pt",
            r"\sbox0{\small%",
            rf"\begin{{tabular}}{{l{'r' * (len(board.columns) - 1)}}}",
            r"\toprule",
            rf"{heads} \\",
            r"\midrule",
            *_rows(board),
            r"\bottomrule",
            r"\end{tabular}}%",
            r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
            r"\end{table}",
        ]
    )


def _rows(board: Board) -> Iterator[str]:
    """The lines of a table, with space between groups if any of them has several rows."""
    spaced = any(size > 1 for size in board.groups)
    starts = {sum(board.groups[:index]) for index in range(1, len(board.groups))} if spaced else set()
    for index, row in enumerate(board.rows):
        if index in starts:
            yield r"\addlinespace"
        yield rf"{' & '.join(_cell(cell) for cell in row)} \\"


def _heading(column: Column, side: str) -> str:
    """A heading with several lines, which are aligned to a side."""
    lines = r" \\ ".join([escape(column.title), *(rf"\scriptsize {escape(text)}" for text in column.details)])
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{lines}\end{{tabular}}"


def _cell(cell: BoardCell) -> str:
    text = escape(cell.text)
    shown = rf"\textbf{{{text}}}" if cell.best else text
    of_worst_case = cell.index is None and cell.certificate is None  # its interval has its own column
    if cell.interval is None or of_worst_case:
        return shown
    low, high = cell.interval
    return rf"{shown}\advbenchci{{{percent(low)}}}{{{percent(high)}}}"


def _below(results: Mapping[str, Any]) -> str:
    """Failures, an explanation of the tables, and the provenance of the results."""
    lines = [escape(line) for line in (*failures(results), READING)]
    facts = [*(("attack", spec) for spec in attack_settings(results)), *provenance(results)]
    lines += [rf"{escape(label)}: \texttt{{{_breakable(text)}}}" for label, text in facts]
    paragraphs = "\\par\n".join(lines)
    return f"\\begingroup\\footnotesize\\raggedright\\noindent\n{paragraphs}\\par\n\\endgroup"


def _breakable(text: str) -> str:
    """Escapes text and allows line breaks after the punctuation between the parts of a spec."""
    pieces = _BREAKS.split(one_line(text))
    return "".join(
        escape(piece) if not _BREAKS.fullmatch(piece) else " " if piece == " " else escape(piece) + r"\allowbreak{}"
        for piece in pieces
    )
