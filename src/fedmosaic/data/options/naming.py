"""Find the option that an answer names among the ways to read a list."""

from __future__ import annotations

from collections.abc import Sequence

from fedmosaic.data.options.answer import Named, sentence, whole_answer
from fedmosaic.data.options.choices import OptionList
from fedmosaic.data.options.lists import joined


def named_in(
    answer: str,
    lists: Sequence[OptionList],
    prefer_label: bool,
    *,
    sentences: bool = True,
    joins: bool = False,
) -> tuple[Named, OptionList] | None:
    """Return the option that an answer names, and the reading of the list that has it.

    An option that equals the answer to the letter counts first, in whichever reading.

    Args:
        answer: the answer.
        lists: the ways to read one list, the likeliest first.
        prefer_label: the label counts where the answer is the text of one option and the label
            of another one.
        sentences: the answer may be a sentence with an option.
        joins: pieces that together spell the answer are one option.

    Raises:
        OptionsError: the answer may be either of two options.
    """
    for listing in lists:
        if answer.strip() in (*listing.texts, *listing.labels):
            named = whole_answer(answer, listing, prefer_label)
            if named is not None:
                return named, listing
    for listing in lists:
        named = whole_answer(answer, listing, prefer_label)
        if named is not None:
            return named, listing
        whole = joined(listing.texts, answer) if joins else None
        if whole is not None and (named := whole_answer(answer, OptionList(whole))) is not None:
            return named, OptionList(whole)
    named = sentence(answer, lists[0]) if sentences else None
    return None if named is None else (named, lists[0])
