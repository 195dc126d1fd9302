"""Collect facts about items in columns, a few bytes for each item, so that examples can go."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from fedmosaic.data.checks.report import SplitFacts
from fedmosaic.data.example import Example
from fedmosaic.data.records import RecordLocation

UNKNOWN = -1
_SHOWN_ANSWER = 80
_QUANTILES = {"least": 0, "25 %": 25, "median": 50, "75 %": 75, "99 %": 99, "most": 100}


class ItemColumns:
    """Hold facts about the items of a task, one entry an item in every column.

    Attributes:
        locations: where the items are.
        numbers: position of an item among all of its files, those counted that cannot be read.
        images: number of images.
        options: number of options.
        contents: hash of turns and images, 16 bytes.
        answers: number of the answer in ``answer_texts``.
        answer_texts: the different answers, cut short.
        sizes: height and width of every image of the items, one after the other.
        tokens: by model the number of tokens; -1 where it is not known.
    """

    def __init__(self, models: Sequence[str]) -> None:
        self.locations: list[RecordLocation] = []
        self.numbers = array("q")
        self.images = array("i")
        self.options = array("i")
        self.contents: list[bytes] = []
        self.answers = array("i")
        self.answer_texts: list[str] = []
        self.sizes: array[int] = array("i")
        self.tokens: dict[str, array[int]] = {model: array("q") for model in models}
        self._answer_numbers: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self.locations)

    def add(
        self,
        location: RecordLocation,
        number: int,
        example: Example,
        sizes: Sequence[tuple[int, int] | None],
        keys: Sequence[str],
        tokens: Mapping[str, int | None],
    ) -> None:
        """Append an item.

        Args:
            location: where it is.
            number: its position among all items.
            example: its example.
            sizes: height and width of its images; None where an image is bad.
            keys: keys of its images, or something else to know them by.
            tokens: its number of tokens by model.
        """
        self.locations.append(location)
        self.numbers.append(number)
        self.images.append(len(example.images))
        self.options.append(len(example.options))
        self.contents.append(_digest(([(t.role, t.text) for t in example.turns], keys)))
        answer = _digest(example.answer)
        if answer not in self._answer_numbers:
            self._answer_numbers[answer] = len(self.answer_texts)
            self.answer_texts.append(example.answer[:_SHOWN_ANSWER])
        self.answers.append(self._answer_numbers[answer])
        for size in sizes:
            self.sizes.extend(size or (UNKNOWN, UNKNOWN))
        for model, column in self.tokens.items():
            found = tokens.get(model)
            column.append(UNKNOWN if found is None else found)

    def facts(self, chosen: np.ndarray) -> SplitFacts:
        """Count what the items at these positions are.

        Args:
            chosen: bool [items].
        """
        images = np.array(self.images, dtype=np.int64)
        sizes = np.array(self.sizes, dtype=np.int64).reshape(-1, 2)[np.repeat(chosen, images)]
        sizes = sizes[sizes[:, 0] != UNKNOWN]
        answers = Counter(np.array(self.answers, dtype=np.int64)[chosen].tolist())
        number, count = answers.most_common(1)[0] if answers else (0, 0)
        contents = {self.contents[index] for index in np.flatnonzero(chosen)}
        items = int(chosen.sum())
        return SplitFacts(
            items=items,
            images=_counts(images[chosen]),
            heights=_spread(sizes[:, 0]),
            widths=_spread(sizes[:, 1]),
            options=_counts(np.array(self.options, dtype=np.int64)[chosen]),
            answers=len(answers),
            commonest=self.answer_texts[number] if answers else "",
            share=count / items if items else 0.0,
            tokens={
                model: found
                for model, column in self.tokens.items()
                if (found := _quantiles(np.array(column, dtype=np.int64)[chosen]))
            },
            repeated=items - len(contents),
        )


def _digest(value: object) -> bytes:
    return hashlib.blake2b(repr(value).encode(errors="surrogatepass"), digest_size=16).digest()


def _counts(values: np.ndarray) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _spread(values: np.ndarray) -> list[float]:
    if not len(values):
        return []
    return [float(values.min()), float(np.median(values)), float(values.max())]


def _quantiles(tokens: np.ndarray) -> dict[str, int]:
    known = tokens[tokens != UNKNOWN]
    if not len(known):
        return {}
    found = np.percentile(known, list(_QUANTILES.values()), method="nearest")
    return dict(zip(_QUANTILES, found.astype(int).tolist(), strict=True))
