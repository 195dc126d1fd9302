"""Read the options that a field lists, in the shapes that data sets give them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from fedmosaic.data.options.choices import OptionList, OptionsError, listed, shortened
from fedmosaic.data.options.labels import in_sequence, label_runs
from fedmosaic.data.options.match import exact
from fedmosaic.data.options.offers import read_list

TEXT_KEYS = ("text", "content", "value", "option", "answer", "name")
LABEL_KEYS = ("label", "letter", "key", "id", "index")
_NOT_TEXT = re.compile(r"image|img|picture|photo|video|audio|sound|bytes", re.IGNORECASE)
_PREFIX = re.compile(r"^(?:option|choice|answer)[\s_-]*", re.IGNORECASE)


def lists_nothing(value: object) -> bool:
    """Return whether a field of options is empty: null, NaN, blank, an empty list or mapping."""
    plain = plain_value(value)
    if isinstance(plain, float):
        return math.isnan(plain)
    if isinstance(plain, str):
        return plain.strip() in ("", "[]", "{}")
    return plain is None or plain == [] or plain == {}


def plain_value(value: Any) -> Any:
    """Return an array as a list, and a number of an array as a number."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, tuple) else value


def option_lists(value: Any, name: str) -> tuple[OptionList, ...]:
    """Return the ways to read a field; there are several for one text only.

    Args:
        value: the field, without arrays (:func:`plain_value`).
        name: its name, for errors.

    Raises:
        OptionsError: the field lists no two options.
    """
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
            return option_lists(json.loads(inside), name)
        except (ValueError, RecursionError):
            pass  # not JSON: Python's quotes, or none
    mapping = inside[:1] == "{"
    found = () if mapping else tuple(read_list(inside[1:-1] if bracketed else inside, bracketed))
    if not found:
        raise OptionsError(
            name,
            f"the text {shortened(value)} cannot be split into options; write a list of texts",
        )
    return found


def _of_list(value: list[Any], name: str) -> OptionList:
    if value and all(isinstance(entry, Mapping) for entry in value):
        return _of_objects(value, name)
    texts = tuple(_option_text(entry, name) for entry in value)
    return _without_labels(texts) or OptionList(texts)


def _without_labels(texts: tuple[str, ...]) -> OptionList | None:
    """Return "A. oak", "B. carp" as texts with labels; None if the texts have none."""
    lines = "\n".join(texts)
    for run in label_runs(lines):
        if run.lines and len(run.tokens) == len(texts):
            ends = [*(token.start for token in run.tokens[1:]), len(lines)]
            bare = tuple(
                exact(lines[token.content : end])
                for token, end in zip(run.tokens, ends, strict=True)
            )
            if all(bare):
                return OptionList(bare, tuple(token.label for token in run.tokens))
    return None


def _of_objects(value: list[Mapping[str, Any]], name: str) -> OptionList:
    other = next((key for entry in value for key in entry if _NOT_TEXT.search(str(key))), None)
    if other is not None:
        raise OptionsError(name, f"an option has the field {other!r}; options are texts only")
    text_key = next((key for key in TEXT_KEYS if all(key in entry for entry in value)), None)
    if text_key is None:
        raise OptionsError(
            name,
            "an option is an object without a text; call the text "
            f"{', '.join(map(repr, TEXT_KEYS))}, or write a list of texts",
        )
    texts = tuple(_option_text(entry[text_key], name) for entry in value)
    keys = [key for key in LABEL_KEYS if key != text_key and all(key in entry for entry in value)]
    labels = tuple(str(entry[keys[0]]) for entry in value) if keys else ()
    return OptionList(texts, labels if len(set(labels)) == len(labels) else ())


def _of_mapping(value: Mapping[Any, Any], name: str) -> OptionList:
    texts, labels = plain_value(value.get("text")), plain_value(value.get("label"))
    if isinstance(texts, list):
        found = _of_list(texts, name)
        if labels is None:
            return found
        if not isinstance(labels, list) or len(labels) != len(texts):
            raise OptionsError(name, "'text' and 'label' must be lists of one length")
        return OptionList(found.texts, tuple(str(label) for label in labels))
    # A table has a null for every letter that another row has and this one lacks.
    filled = {
        _PREFIX.sub("", str(key)).strip(): entry
        for key, entry in value.items()
        if entry is not None
    }
    if not in_sequence(sorted(filled, key=lambda label: (len(label), label))):
        raise OptionsError(
            name,
            f"expected a list of texts, or texts under letters, found {listed([*map(str, value)])}",
        )
    return OptionList(tuple(_option_text(text, name) for text in filled.values()), tuple(filled))


def _option_text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return exact(value)
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    kind = "null" if value is None else "NaN" if isinstance(value, float) else type(value).__name__
    raise OptionsError(name, f"an option is {kind}, not a text; write a list of texts")
