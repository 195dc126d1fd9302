"""Read the options of a field, and which of them an answer means."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedmosaic.data.options.answer import Named, find_label, sentence, whole_answer
from fedmosaic.data.options.choices import Choices, OptionList, OptionsError, listed, shortened
from fedmosaic.data.options.labels import in_sequence, label_runs
from fedmosaic.data.options.match import exact, folded
from fedmosaic.data.options.offers import asks_for_labels, offers, read_list
from fedmosaic.data.options.spelling import in_form

TEXT_KEYS = ("text", "content", "value", "option", "answer", "name")
LABEL_KEYS = ("label", "letter", "key", "id", "index")
_PLACES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def choices_of_field(
    value: object,
    answer: str | int | float | bool,
    prompt: str = "",
    name: str = "options",
    answer_name: str = "answer",
) -> Choices:
    """Return the options of a field, and the one that the answer means.

    Args:
        value: a list of texts, numbers or booleans; a list of objects with a text and perhaps a
            label (``TEXT_KEYS``, ``LABEL_KEYS``); a mapping from letters to texts;
            ``{"text": [...], "label": [...]}``; or one text that lists options.
        answer: the text of an option, its letter, both, or a sentence with one of them; or its
            place from 0, as an int. A number is an option where the options are numbers. A place
            is never written as a text, and never counted from 1, save where the options are so
            labelled.
        prompt: the user's text. Where it letters the same options, its order counts for letters.
        name: the field of the options, for errors.
        answer_name: the field of the answer, for errors.

    Returns:
        The options; ``learn`` is their text where the answer is an index, or a letter that the
        prompt does not show.

    Raises:
        OptionsError: the options cannot be read, or the answer means none or several of them.
    """
    try:
        listings = _listings(_plain(value), name)
        if isinstance(answer, bool) or not isinstance(answer, str):
            return _by_number(_plain(value), listings[0], answer, prompt)
        return _by_text(listings, answer, prompt, name)
    except OptionsError as error:
        field = answer_name if error.field == "answer" else error.field
        raise OptionsError(field, error.message) from error


def _plain(value: Any) -> Any:
    """Return arrays, as tables hold them, as lists."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _listings(value: Any, name: str) -> tuple[OptionList, ...]:
    """Return the ways to read a field; there are several for one text only."""
    if isinstance(value, str):
        return _of_text(value, name)
    if isinstance(value, Mapping):
        found = _of_mapping(value, name)
    elif isinstance(value, list):
        found = _of_list(value, name)
    else:
        raise OptionsError(name, f"expected a list of texts, found {type(value).__name__}")
    if len(found.texts) < 2:
        raise OptionsError(
            name, "a choice needs two options or more; leave the field out for an open question"
        )
    if not all(found.texts):
        raise OptionsError(name, "an option is empty; write its text, or take it out")
    return (found,)


def _of_text(value: str, name: str) -> tuple[OptionList, ...]:
    inside = value.strip()
    bracketed = inside[:1] == "[" and inside[-1:] == "]"
    if bracketed or inside[:1] == "{":
        try:
            return _listings(json.loads(inside), name)
        except ValueError:
            pass
    found = tuple(read_list(inside[1:-1] if bracketed else inside, bracketed))
    if not found:
        raise OptionsError(
            name, f"one text, {value!r}, that lists no two options; write a list of texts"
        )
    return found


def _of_list(value: list[Any], name: str) -> OptionList:
    if all(isinstance(entry, Mapping) for entry in value) and value:
        return _of_objects(value, name)
    texts = tuple(_scalar(entry, name) for entry in value)
    # "A. oak", "B. carp": the letters are labels.
    runs = label_runs("\n".join(texts))
    for run in runs:
        if run.lines and len(run.tokens) == len(texts) and all(texts):
            bare = [
                exact(text[len(text) - len(text.lstrip()) + token.content - token.start :])
                for text, token in zip(texts, run.tokens, strict=True)
            ]
            if all(bare) and not any("\n" in text for text in texts):
                return OptionList(tuple(bare), tuple(token.label for token in run.tokens))
    return OptionList(texts)


def _of_objects(value: list[Mapping[str, Any]], name: str) -> OptionList:
    text_key = next((key for key in TEXT_KEYS if all(key in entry for entry in value)), None)
    if text_key is None:
        raise OptionsError(
            name, f"an option has none of {', '.join(TEXT_KEYS)}; write a list of texts"
        )
    texts = tuple(_scalar(entry[text_key], name) for entry in value)
    label_key = next((key for key in LABEL_KEYS if all(key in entry for entry in value)), None)
    labels = () if label_key is None else tuple(str(entry[label_key]) for entry in value)
    return OptionList(texts, labels if len(set(labels)) == len(labels) else ())


def _of_mapping(value: Mapping[str, Any], name: str) -> OptionList:
    texts, labels = _plain(value.get("text")), _plain(value.get("label"))
    if isinstance(texts, list):
        found = _of_list(texts, name)
        if labels is None:
            return found
        if not isinstance(labels, list) or len(labels) != len(texts):
            raise OptionsError(name, "'text' and 'label' are not lists of one length")
        return OptionList(found.texts, tuple(str(label) for label in labels))
    filled = {str(key).strip(): entry for key, entry in value.items() if entry is not None}
    if not in_sequence(sorted(filled)):
        raise OptionsError(
            name, f"expected a list of texts, or texts under letters; found {listed([*filled])}"
        )
    return OptionList(tuple(_scalar(text, name) for text in filled.values()), tuple(filled))


def _scalar(value: Any, name: str) -> str:
    if isinstance(value, str):
        return exact(value)
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    raise OptionsError(
        name, f"an option is {type(value).__name__}, not a text; write a list of texts"
    )


def _by_number(value: Any, listing: OptionList, answer: Any, prompt: str) -> Choices:
    """Return the choices of an answer that is a number or a boolean."""
    texts, index = listing.texts, None
    numeric = isinstance(value, list) and not any(isinstance(entry, str) for entry in value)
    if numeric and not any(isinstance(entry, Mapping) for entry in value):
        same = [k for k, entry in enumerate(value) if entry == answer and _alike(entry, answer)]
        index = same[0] if same else None
    elif listing.labels and (label := json.dumps(answer)) in listing.labels:
        index = listing.labels.index(label)
    place = answer if isinstance(answer, int) and not isinstance(answer, bool) else None
    if place is not None and not 0 <= place < len(texts):
        place = None
    if index is not None and numeric and place is not None and texts[place] != texts[index]:
        raise OptionsError(
            "answer",
            f"{answer} may be the option {answer} or the place of {texts[place]}; "
            "write the option as a text",
        )
    if index is None and isinstance(answer, bool):
        index = next((k for k, t in enumerate(texts) if t.casefold() == json.dumps(answer)), None)
    index = place if index is None else index
    if index is None:
        raise OptionsError(
            "answer",
            f"{json.dumps(answer)} is neither an option nor the place of one, "
            f"0 to {len(texts) - 1}; write the option's text, its letter or its place",
        )
    return _of_index(listing, index, prompt)


def _alike(entry: Any, answer: Any) -> bool:
    return isinstance(entry, bool) == isinstance(answer, bool)


def _of_index(listing: OptionList, index: int, prompt: str) -> Choices:
    """Return the choices of an index, as letters if the prompt shows letters and asks for one."""
    shown = _lettered(prompt, listing)
    if shown is not None and listing.texts[index] in shown.texts and asks_for_labels(prompt):
        place = shown.texts.index(listing.texts[index])
        return Choices(shown.labels, place, shown.labels[place])
    return Choices(listing.texts, index, listing.texts[index])


def _by_text(listings: Sequence[OptionList], answer: str, prompt: str, name: str) -> Choices:
    """Return the choices of an answer that is a text."""
    for listing in listings:
        shown = _lettered(prompt, listing)
        if shown is not None:
            named = _named(answer, shown, prompt)
            if named is not None:
                _check_letters(answer, named, shown, listing, name)
                return Choices(in_form(answer, named, shown), named.index, answer)
        labels = listing.labels or tuple(_PLACES[: len(listing.texts)])
        labelled = (
            OptionList(listing.texts, labels) if len(labels) == len(listing.texts) else listing
        )
        named = _named(answer, labelled, prompt)
        if named is None:
            continue
        if named.form == "text":
            return Choices(listing.texts, named.index, answer)
        if shown is None and not listing.labels:
            _check_no_other_letters(prompt, name)
        return Choices(listing.texts, named.index, listing.texts[named.index])
    raise OptionsError(
        "answer",
        f"{shortened(answer)} is none of the options {listed(listings[0].texts)}; "
        "write the option's text, its letter, or its place from 0 as a number",
    )


def _named(answer: str, listing: OptionList, prompt: str) -> Named | None:
    return whole_answer(answer, listing, asks_for_labels(prompt)) or sentence(answer, listing)


def _lettered(prompt: str, listing: OptionList) -> OptionList | None:
    """Return the prompt's own list of these options, if it letters them, in its order."""
    for shown in _lettered_lists(prompt):
        same = sorted(map(folded, shown.texts)) == sorted(map(folded, listing.texts))
        if same or shown.labels == listing.texts:
            return shown
    return None


def _lettered_lists(prompt: str) -> list[OptionList]:
    return [offer.listings[0] for offer in offers(prompt) if offer.listings[0].labels]


def _check_letters(
    answer: str, named: Named, shown: OptionList, listing: OptionList, name: str
) -> None:
    """Refuse a letter that stands for one option in the prompt and for another in the field."""
    if named.form == "text" or not listing.labels:
        return
    place = find_label(shown.labels[named.index], listing.labels)
    if place is not None and folded(listing.texts[place]) != folded(shown.texts[named.index]):
        raise OptionsError(
            name,
            f"{shortened(answer)} is {shortened(shown.texts[named.index])} in the prompt, and "
            f"{shortened(listing.texts[place])} here; give both the same letters",
        )


def _check_no_other_letters(prompt: str, name: str) -> None:
    """Refuse a letter as an answer where the prompt letters options that the field lacks."""
    for shown in _lettered_lists(prompt):
        raise OptionsError(
            name,
            f"the prompt letters other options, {listed(shown.texts)}; give both the same options, "
            "or write the answer as a text",
        )
