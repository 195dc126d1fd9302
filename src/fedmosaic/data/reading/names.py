"""Name the fields that items have, and what each of them means.

Names are compared in a plain form: ``answerKey``, ``Answer Key`` and ``answer-key`` are
``answer_key``.
"""

from __future__ import annotations

import re

MEANINGS: dict[str, tuple[str, ...]] = {
    "turns": ("conversations", "messages", "conversation", "dialog", "dialogue"),
    "images": (
        *("image", "images", "img", "imgs", "image_path", "image_paths", "image_file"),
        *("image_files", "img_path", "img_paths", "picture", "pictures", "photo", "photos"),
        *("image_url", "image_urls", "image_filename", "image_name", "file_name", "filename"),
    ),
    "question": ("instruction", "prompt", "question", "query", "inputs"),
    "context": ("input", "context", "passage", "paragraph"),
    "answer": (
        *("output", "response", "completion", "answer", "targets", "target"),
        *("multiple_choice_answer", "correct_answer", "ground_truth", "answers"),
    ),
    "place": (
        *("answer_idx", "answer_index", "answer_key", "correct_choice_idx", "correct_index"),
        *("correct_option", "correct_choice"),
    ),
    "options": ("options", "choices", "candidates", "endings"),
    "system": ("system", "system_prompt", "system_message"),
    "history": ("history",),
    "caption": ("caption", "captions"),
    "label": ("label", "labels", "class", "class_name"),
    "text": ("text",),
    "id": ("id", "question_id", "sample_id", "qid", "uid", "uuid", "guid", "idx", "index"),
}
"""Meaning -> names of fields that have it."""

_VIDEO = "videos cannot be learned here; remove the field, or the item"
_AUDIO = "sound cannot be learned here; remove the field, or the item"
_TOOLS = "tools and calls of functions cannot be learned here; write them into the turns as text"
_PREFERENCE = (
    "pairs of a better and a worse answer are for another kind of training; give each item one"
    " answer, under the name output"
)
_REASONING = "reasoning beside an answer is not learned; write it into the answer's text"
_MASK = "masks and weights of whole items are not supported; give a turn 'loss': false instead"

REFUSED: dict[str, str] = {
    **dict.fromkeys(("video", "videos", "video_path", "video_file", "clip", "frames"), _VIDEO),
    **dict.fromkeys(("audio", "audios", "sound", "speech", "wav", "audio_path"), _AUDIO),
    **dict.fromkeys(("tools", "functions", "tool_calls", "function_call", "function"), _TOOLS),
    **dict.fromkeys(("chosen", "rejected", "rejected_response", "rejected_responses"), _PREFERENCE),
    **dict.fromkeys(
        ("chosen_response", "rejected_images", "kto_tag", "rejected_message"), _PREFERENCE
    ),
    **dict.fromkeys(("reasoning_content", "reasoning", "thinking", "thoughts"), _REASONING),
    **dict.fromkeys(("loss_mask", "mask", "weight", "weights", "loss", "sample_weight"), _MASK),
    "documents": "documents are not read; write them into the question",
}
"""Plain name of a field that would change what is learned and is not supported -> why."""

_SEVERAL_IMAGES = re.compile(r"(?:image|img|picture)_?(\d+)")
_REFUSED_KINDS = (("video", _VIDEO), ("audio", _AUDIO), ("speech", _AUDIO))
_PICTURE = re.compile(
    r"\.(?:jpe?g|png|gif|bmp|webp|tiff?|avif|heic|ppm|pgm|jp2|ico|tga)(?:[?#].*)?$|^data:image/",
    re.IGNORECASE,
)


def plain_name(name: str) -> str:
    """Return the plain form of a field's name."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\s\-.]+", "_", apart).casefold()


def image_number(plain: str) -> int | None:
    """Return the number of a field such as ``image_2``; None of another field."""
    found = _SEVERAL_IMAGES.fullmatch(plain)
    return int(found[1]) if found else None


def why_refused(plain: str, value: object) -> str | None:
    """Return why an item with this field is refused; None where it is not."""
    if plain in REFUSED:
        harmless = plain in ("weight", "loss", "sample_weight") and value in (1, True)
        return None if harmless else REFUSED[plain]
    if isinstance(value, str | list | dict):
        words = plain.split("_")
        return next(
            (
                reason
                for kind, reason in _REFUSED_KINDS
                if (kind in words or f"{kind}s" in words) and words[-1] not in ("id", "ids")
            ),
            None,
        )
    return None


def looks_like_picture(value: object) -> bool:
    """Return whether a value is the path, the address or the content of a picture."""
    if isinstance(value, list):
        return bool(value) and all(looks_like_picture(entry) for entry in value)
    if isinstance(value, dict):
        return {"bytes", "path"} >= set(value) and bool(value)
    return isinstance(value, str) and bool(_PICTURE.search(value.strip()))
