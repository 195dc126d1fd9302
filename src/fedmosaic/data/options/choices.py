"""Define the options of a question, and the errors about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedmosaic.errors import FedMosaicError


@dataclass(frozen=True)
class Choices:
    """Hold the options of a question and which one is right.

    Attributes:
        options: the options in their order, at least two. Repeats stay, since a letter stands for
            a place. They are letters where the answer names a letter that the prompt shows, letters
            with texts where the answer gives both, and texts otherwise.
        index: place of the right option, from 0.
        learn: the text to learn: the answer as it was written; the option's text where the answer
            is an index, or a letter that the prompt does not show.
    """

    options: tuple[str, ...]
    index: int
    learn: str


@dataclass(frozen=True)
class OptionList:
    """Hold one way to read a list of options.

    Attributes:
        texts: the options without their letters.
        labels: what letters or numbers them, as written; empty if nothing does.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()


class OptionsError(FedMosaicError):
    """Report options or an answer that cannot be read.

    Attributes:
        field: name of the field at fault.
        message: what is wrong and what to do, without file and item, which the reader adds.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class NotOffered(OptionsError):
    """Report an answer that is none of the options that its prompt lists.

    Attributes:
        options: the options that were found.
    """

    def __init__(self, answer: str, options: Sequence[str], field: str = "options") -> None:
        super().__init__(
            field,
            f"the answer {shortened(answer)} is none of the options of its prompt, "
            f"{listed(options)}; write the option's text or its letter",
        )
        self.options = tuple(options)


def listed(options: Sequence[str]) -> str:
    """Return options for a message: the first eight, quoted."""
    shown = ", ".join(shortened(option) for option in options[:8])
    return shown + (f" and {len(options) - 8} more" if len(options) > 8 else "")


def shortened(text: str, most: int = 60) -> str:
    """Return a text quoted, cut to ``most`` characters."""
    return repr(text if len(text) <= most else text[: most - 1] + "…")
