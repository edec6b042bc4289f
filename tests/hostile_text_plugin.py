"""Components whose texts try to act: on a terminal, in Markdown, a spreadsheet, LaTeX or a page."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from advbench.api import Dataset, Defense, LabelledImages, hookimpl, param

CONTROL = "\x1b[7mINVERTED \x1b]0;TITLE\x07 \x9b2J \r\x08 \x7f \u202eTHGIR\u2066 \u200b\u2028 \ttab\nNEW LINE"
"""Control characters of terminals, bidirectional marks, characters without a width, and line breaks."""

FORMULA = "=cmd|'/C calc'!A0"

MARKUP = (
    "[bold red]RICH[/] :smile: <img src=x onerror=document.title='XSS'> </code></script><script>alert(1)</script> "
    "**STRONG** [link](https://e.example) ![image](https://e.example/i.png) "
    "https://e.example www.e.example @someone | `code` ~~gone~~ "
    r"\input{/etc/passwd} \immediate\write18{touch written-by-latex} $\frac{1}{0}$ ^^41 50% # & _"
)

TEXT = f"{FORMULA} {MARKUP} {CONTROL}"


@dataclass(frozen=True)
class HostileDigits(Dataset):
    name = "hostile-digits"
    image_shape = (1, 4, 4)
    num_classes = 3
    class_names = (f"zero {TEXT}", f"one {TEXT}", TEXT)

    def ids(self):
        return range(20)

    def load(self, sources):
        images = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(1))
        return LabelledImages(images, torch.arange(20) % 3, torch.arange(20))

    def notes(self):
        return [TEXT]


@dataclass(frozen=True)
class HostileText(Defense):
    name = "hostile-text"
    source = TEXT
    mark: str = param(f"{FORMULA} {MARKUP}", help=TEXT)

    def apply(self, images, rng):
        return images


@dataclass(frozen=True)
class HostileError(Defense):
    name = "hostile-error"

    def apply(self, images, rng):
        raise type(f"Error{TEXT}", (Exception,), {})(TEXT)


@dataclass(frozen=True)
class HostileDefault(Defense):
    name = "hostile-default"
    mark: str = param(CONTROL, help="a text that no spec can have")

    def apply(self, images, rng):
        return images


@dataclass(frozen=True)
class HostileName(Defense):
    name = f"hostile{CONTROL}"

    def apply(self, images, rng):
        return images


for component in (HostileDigits, HostileText, HostileError, HostileName):
    component.__doc__ = TEXT
HostileName.__qualname__ = f"Hostile{CONTROL}"


@hookimpl
def register_datasets(register):
    register(HostileDigits)


@hookimpl
def register_defenses(register):
    for defense in (HostileText, HostileError, HostileDefault, HostileName):
        register(defense)
