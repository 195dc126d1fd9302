"""Find the options that a prompt offers, and the one that an answer names."""

from __future__ import annotations

import re

from fedmosaic.data.options.choices import Choices, NotOffered
from fedmosaic.data.options.naming import named_in
from fedmosaic.data.options.offers import asks_for_labels, offers
from fedmosaic.data.options.spelling import in_form

_LETTER = re.compile(r"^[\s(（\[*]*[A-Z][\s)）\].:*]*$")  # an answer that can only be a label


def choices_in_prompt(prompt: str, answer: str) -> Choices | None:
    r"""Return the options that a prompt offers and the one that the answer names.

    The last list of the prompt counts. These forms are understood, on one line or on several::

        A. red  B. dark red      also A) (A) A: A - **A.** - A. （A） A． A、 Ⓐ a. 1. ① Option A:
        Choice list:[red, dark red]      Options: ["a, b", "c"]      Choices: [one| two]
        Options: red; dark red    Choices: red / dark red    Options: red, blue or green
        Options:\nred\ndark red   选项：红、蓝    선택지: 개, 고양이    Is it raining? (yes/no)

    A list behind a comma may hold options with commas: the answer shows one of them, which is
    joined. An option in quotes or in brackets is not split.

    Args:
        prompt: the user's text.
        answer: the assistant's: a text of an option, its label, both, or a sentence with one of
            them.

    Returns:
        The options, or None if the prompt offers none.

    Raises:
        NotOffered: the prompt offers options, and the answer names none of them.
        OptionsError: the answer may be either of two options.
    """
    for offer in offers(prompt):
        found = named_in(
            answer,
            offer.lists,
            asks_for_labels(prompt),
            sentences=offer.sentences,
            joins=offer.joins,
        )
        if found is not None:
            named, listing = found
            return Choices(in_form(answer, named, listing), named.index, answer)
        if offer.clear or (offer.lists[0].labels and _LETTER.match(answer)):
            raise NotOffered(answer, offer.lists[0].texts)
    return None
