"""Put the marks of images into the turns, as many as there are images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from fedmosaic.data.example import IMAGE_MARK, Turn
from fedmosaic.data.image import Image
from fedmosaic.data.records import RecordLocation

# Marks of other tools: <|image|>, <IMAGE>, <ImageHere>, <image_1>, <image 1>, <|image_1|>, [IMG].
_OTHER_MARKS = re.compile(
    r"<\|?(?:image|img|picture)(?:[ _-]?(?:here|pad|token|placeholder|soft_token))?"
    r"(?:[ _-]?(?P<number>\d+))?\|?>|<start_of_image>|\[IMG\]|\{image\}",
    re.IGNORECASE,
)


def mark_images(
    turns: list[Turn], images: Sequence[Image], location: RecordLocation, field: str
) -> tuple[list[Turn], list[Image]]:
    """Return the turns with one ``<image>`` mark for each image, and the images in that sequence.

    If no turn has a mark, the marks are put at the front of the first user turn, as LLaVA does.
    Marks of other tools are rewritten if there are as many as images; numbered ones say which
    image they stand for.

    Args:
        turns: the turns.
        images: the images.
        location: the item, for messages.
        field: name of the field with the images, for messages.

    Raises:
        DataError: there are not as many marks as images, or a mark is outside the user's turns.
    """
    count = len(images)
    _require_user_marks(turns, location, field)
    marks = sum(turn.text.count(IMAGE_MARK) for turn in turns)
    others = [
        found
        for turn in turns
        if turn.role == "user"
        for found in _OTHER_MARKS.finditer(turn.text)
        if found[0] != IMAGE_MARK
    ]
    if count and others:
        if marks or len(others) != count:
            raise location.error(
                field,
                f"{count} images, but {marks} {IMAGE_MARK} marks and {len(others)} marks of other"
                f" tools, such as {others[0][0]}; write {IMAGE_MARK} for each image",
            )
        return _rewritten(turns), _by_number(images, others, location, field)
    if not marks and count:
        return _marked_in_front(turns, count, location, field), list(images)
    if marks != count:
        raise location.error(
            field,
            f"{count} images, but {marks} {IMAGE_MARK} marks in the item;"
            " write one mark for each image, or none",
        )
    return turns, list(images)


def _marked_in_front(
    turns: list[Turn], count: int, location: RecordLocation, field: str
) -> list[Turn]:
    first = next((index for index, turn in enumerate(turns) if turn.role == "user"), None)
    if first is None:
        raise location.error(field, "an item with images needs a question")
    text = IMAGE_MARK * count + ("\n" + turns[first].text if turns[first].text else "")
    return [*turns[:first], replace(turns[first], text=text), *turns[first + 1 :]]


def _require_user_marks(turns: Sequence[Turn], location: RecordLocation, field: str) -> None:
    for turn in turns:
        if turn.role != "user" and IMAGE_MARK in turn.text:
            speaker = "an answer" if turn.role == "assistant" else "the system turn"
            raise location.error(
                field, f"{IMAGE_MARK} stands in {speaker}; marks may be in the user's turns only"
            )


def _rewritten(turns: list[Turn]) -> list[Turn]:
    return [
        replace(turn, text=_OTHER_MARKS.sub(IMAGE_MARK, turn.text)) if turn.role == "user" else turn
        for turn in turns
    ]


def _by_number(
    images: Sequence[Image],
    marks: Sequence[re.Match[str]],
    location: RecordLocation,
    field: str,
) -> list[Image]:
    numbers = [int(mark["number"]) for mark in marks if mark["number"] is not None]
    if not numbers:
        return list(images)
    least = min(numbers)
    if (
        len(numbers) != len(marks)
        or least > 1
        or sorted(numbers) != list(range(least, least + len(marks)))
    ):
        raise location.error(
            field,
            f"the marks {', '.join(mark[0] for mark in marks)} do not number the"
            f" {len(images)} images; write {IMAGE_MARK} for each image, in their sequence",
        )
    return [images[number - least] for number in numbers]
