"""Read a choice by the rule of the research code that published the benchmarks."""

from __future__ import annotations

from collections.abc import Sequence


def read_choice_as_release(text: str, options: Sequence[str]) -> str | None:
    """Return the first option in the list that occurs anywhere in ``text``, or None.

    Capitals do not count, and an option may be part of a word: "dark red" is read as "red" where
    "red" is listed before it, "10" as "1", and the article in "a boat" as the choice A. This is
    for comparison with published figures; :func:`read_choice` reads with care.

    Args:
        text: A generated answer.
        options: Options as listed in the prompt.
    """
    folded = text.casefold()
    found = (option for option in options if option.strip() and option.strip().casefold() in folded)
    return next(found, None)
