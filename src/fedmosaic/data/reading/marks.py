"""Put the marks of images into the turns, as many as there are images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from fedmosaic.data.example import IMAGE_MARK, Turn
from fedmosaic.data.image import Image
from fedmosaic.data.records import RecordLocation

# Marks of other tools: <|image|>, <IMAGE>, <ImageHere>, <image_1>, <image 1>, <|image_1|>, <image/>
_IN_ANGLES = (
    r"<Image><ImageHere></Image>|\(<image>\./</image>\)|<start_of_image>"
    r"|(?:<\|vision_start\|>|<im_start>)?<\s*\|?_*(?:image|img|picture)"
    r"(?:[ _-]?(?P<kind>here|pad|token|placeholder|soft_token|content|context))?"
    r"(?:[ _-]?(?P<number>\d+))?_*\|?\s*/?>(?:<\|vision_end\|>|<im_end>)?"
)
# [image], [IMG], [Image 1], {image}: these may be words, too.
_IN_WORDS = r"\[{1,2}(?:image|img)(?:[ _-]?(?P<place>\d+))?\]{1,2}|\{{1,2}image\}{1,2}"
_MARKS = re.compile(f"{_IN_ANGLES}|(?P<words>{_IN_WORDS})", re.IGNORECASE)
_HTML = re.compile(r"<\s*(?:img|picture|image)\s*/?>")
_INLINE = re.compile(r"<img>\s*([^<>\n]{1,4096}?)\s*</img>", re.IGNORECASE)
_LINKED = re.compile(
    r"!\[[^\]\n]*\]\((?P<markdown>[^)\s]+)\)"
    r"|<img\s[^>]*?src\s*=\s*[\"']?(?P<html>[^\"'\s>]+)",
    re.IGNORECASE,
)
_OTHER_MEDIA = re.compile(r"<\|?(?:video|audio)(?:_pad)?(?:[ _]?\d+)?\|?>", re.IGNORECASE)


def inline_pictures(turns: list[Turn]) -> tuple[list[Turn], list[str]]:
    """Return the turns with marks for ``<img>path</img>``, as Qwen-VL has it, and the paths."""
    paths = [path for turn in turns if turn.role == "user" for path in _INLINE.findall(turn.text)]
    if not paths:
        return turns, []
    return [
        replace(turn, text=_INLINE.sub(IMAGE_MARK, turn.text)) if turn.role == "user" else turn
        for turn in turns
    ], paths


def linked_picture(turns: Sequence[Turn]) -> str:
    """Return the first picture that a text links to as Markdown or HTML do; empty if none."""
    found = (link for turn in turns for link in _LINKED.finditer(turn.text))
    return next((link["markdown"] or link["html"] for link in found), "")


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
    found = [mark for turn in turns if turn.role == "user" for mark in _MARKS.finditer(turn.text)]
    marks = sum(mark[0] == IMAGE_MARK for mark in found)
    others = [mark for mark in found if mark[0] != IMAGE_MARK]
    if not count:
        others = [mark for mark in others if is_mark(mark)]
    elif marks == count:
        others = [mark for mark in others if not mark["words"]]
    if others and not count:
        raise location.error(
            field,
            f"has the mark {others[0][0]} of an image, but the item names no picture; name it in"
            " 'image', or write the mark in other words",
        )
    if others:
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


def is_mark(found: re.Match[str]) -> bool:
    """Return whether a mark can be nothing else: no word in brackets, no tag of HTML."""
    closed = re.search(r"</\s*(?:image|img|picture)\s*>", found.string, re.IGNORECASE)
    certain = found["kind"] or found["number"] or "|" in found[0] or "here" in found[0].lower()
    return not found["words"] and (
        bool(certain) or (not closed and not _HTML.fullmatch(found[0])) or found[0] == IMAGE_MARK
    )


def find_mark(text: str) -> str | None:
    """Return the first mark of an image in a text that can be nothing else; None without."""
    return next((found[0] for found in _MARKS.finditer(text) if is_mark(found)), None)


def _marked_in_front(
    turns: list[Turn], count: int, location: RecordLocation, field: str
) -> list[Turn]:
    first = next((index for index, turn in enumerate(turns) if turn.role == "user"), None)
    if first is None:
        raise location.error(field, "an item with images needs a question")
    text = IMAGE_MARK * count + ("\n" + turns[first].text if turns[first].text else "")
    return [*turns[:first], replace(turns[first], text=text), *turns[first + 1 :]]


def _require_user_marks(turns: Sequence[Turn], location: RecordLocation, field: str) -> None:
    """Require that marks are in the user's turns, and that none stands for a video or a sound."""
    for turn in turns:
        mark = find_mark(turn.text) if turn.role != "user" else None
        if mark is not None:
            speaker = "an answer" if turn.role == "assistant" else "the system turn"
            raise location.error(
                field, f"{mark} stands in {speaker}; marks may be in the user's turns only"
            )
        if turn.role == "user":
            text = turn.text.strip()
            for other in _OTHER_MEDIA.finditer(text):
                if other.start() == 0 or other.end() == len(text):
                    raise location.error(
                        field, f"has the mark {other[0]}; videos and sound cannot be learned here"
                    )


def _rewritten(turns: list[Turn]) -> list[Turn]:
    return [
        replace(turn, text=_MARKS.sub(IMAGE_MARK, turn.text)) if turn.role == "user" else turn
        for turn in turns
    ]


def _by_number(
    images: Sequence[Image],
    marks: Sequence[re.Match[str]],
    location: RecordLocation,
    field: str,
) -> list[Image]:
    written = [mark["number"] or mark["place"] for mark in marks]
    numbers = [int(number) for number in written if number is not None]
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
