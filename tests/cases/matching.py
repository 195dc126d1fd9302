"""Compare what was shown with what a case expects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

LETTERS = re.compile(r"\(?([A-Z])[).:]?")


def differences(expected: Mapping[str, Any], line: Mapping[str, Any]) -> list[str]:
    """Return how a printed line differs from what a case expects of it."""
    found = []
    for key, wanted in expected.items():
        if key == "index":
            continue
        if key == "last":
            value = [t["text"] for t in line["turns"] if t["role"] == "assistant"][-1]
        elif key == "offered":
            found += _offered(wanted, line)
            continue
        else:
            value = line.get(key)
        if not matches(wanted, value):
            found.append(f"{key}: {value!r} is not {wanted!r}")
    if line["options"] and line["answer"] not in line["options"]:
        found.append(f"the answer {line['answer']!r} is none of {line['options']}")
    return found


def matches(wanted: Any, value: Any) -> bool:
    """Return whether a value is as a case wants it."""
    if isinstance(wanted, Mapping):
        if "any" in wanted:
            return any(matches(each, value) for each in wanted["any"])
        if "has" in wanted or "lacks" in wanted:
            text = plain(value)
            return all(plain(each) in text for each in wanted.get("has", ())) and not any(
                plain(each) in text for each in wanted.get("lacks", ())
            )
        if "near" in wanted:
            pairs = zip(wanted["near"], value, strict=True)
            return all(abs(a - b) <= wanted["within"] for a, b in pairs)
        return isinstance(value, Mapping) and all(
            matches(each, value.get(key)) for key, each in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(value, Sequence)
            and len(wanted) == len(value)
            and all(map(matches, wanted, value))
        )
    if isinstance(wanted, str) and isinstance(value, str):
        return plain(wanted) == plain(value)
    return bool(wanted == value)


def plain(text: Any) -> str:
    """Return a text with single blanks, and none beside the marks of images."""
    return re.sub(r"\s*<image>\s*", "<image>", " ".join(str(text).split()))


def _offered(wanted: Sequence[str], line: Mapping[str, Any]) -> list[str]:
    prompts = plain(" ".join(t["text"] for t in line["turns"] if t["role"] == "user"))
    listed = plain(" ".join(line["options"] or ()))
    return [f"{t!r} is not offered" for t in wanted if plain(t) not in prompts + " " + listed]


def says(error: Sequence[Any], text: str) -> bool:
    """Return whether a message holds every entry; of an entry that is a list, one of them."""
    folded = text.casefold()
    return all(
        any(str(each).casefold() in folded for each in (e if isinstance(e, list) else [e]))
        for e in error
    )
