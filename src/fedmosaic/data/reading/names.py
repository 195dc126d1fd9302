"""Name the fields that items have, and what each of them means.

Names are compared in a plain form: ``answerKey``, ``Answer Key`` and ``answer-key`` are
``answer_key``.
"""

from __future__ import annotations

import re
from functools import lru_cache

MEANINGS: dict[str, tuple[str, ...]] = {
    "turns": (
        *("conversations", "messages", "conversation", "dialog", "dialogue", "contents", "texts"),
    ),
    "images": (
        *("image", "images", "img", "imgs", "image_path", "image_paths", "image_file"),
        *("image_files", "img_path", "img_paths", "picture", "pictures", "photo", "photos"),
        *("image_base64", "image_base64_str", "img_fn", "img_name", "imgname", "figure_path"),
        *("image_filename", "image_name", "file_name", "filename", "image_url", "image_urls"),
    ),
    "question": ("instruction", "prompt", "question", "query", "question_stem"),
    "definition": ("definition",),
    "context": ("input", "inputs", "context", "passage", "paragraph", "article", "hint", "ctx"),
    "answer": (
        *("output", "response", "completion", "answer", "targets", "target", "outputs"),
        *("multiple_choice_answer", "correct_answer", "ground_truth", "answers"),
    ),
    "place": (
        *("answer_idx", "answer_index", "answer_key", "correct_choice_idx", "correct_index"),
        *("correct_option", "correct_choice", "answer_label"),
    ),
    "options": ("options", "choices", "candidates", "endings", "answer_choices"),
    "system": ("system", "system_prompt", "system_message", "system_instruction"),
    "history": ("history",),
    "caption": ("caption", "captions"),
    "label": ("label", "labels", "class", "class_name", "gold_label"),
    "text": ("text",),
    "id": ("id", "question_id", "sample_id", "qid", "uid", "uuid", "guid", "idx", "index"),
}
"""Meaning -> names of fields that have it."""

ORIGINS = (
    *("image_filename", "image_name", "file_name", "filename", "image_url", "image_urls"),
    *("img_fn", "img_name", "imgname", "figure_path"),
)
"""Names of fields that hold the picture only if no other field does; beside one, its origin."""

_VIDEO = "videos cannot be learned here; remove the field, or the item"
_AUDIO = "sound cannot be learned here; remove the field, or the item"
_TOOLS = "tools and calls of functions cannot be learned here; write them into the turns as text"
PREFERENCE = (
    "pairs of a better and a worse answer are for another kind of training; give each item one"
    " answer, under the name output"
)
_REASONING = "reasoning beside an answer is not learned; write it into the answer's text"
_MASK = "masks and weights of whole items are not supported; give a turn 'loss': false instead"

# Of these only a value with content counts: "tools": false and "video": 0 say that there is none.
_CONTENTS: dict[str, str] = {
    **dict.fromkeys(("video", "videos", "video_path", "video_file", "clip", "frames"), _VIDEO),
    **dict.fromkeys(("audio", "audios", "sound", "speech", "wav", "audio_path"), _AUDIO),
    **dict.fromkeys(("tools", "functions", "tool_calls", "function_call", "function"), _TOOLS),
    **dict.fromkeys(("reasoning_content", "reasoning", "thinking", "thoughts"), _REASONING),
    "documents": "documents are not read; write them into the question",
}
REFUSED: dict[str, str] = {
    **_CONTENTS,
    **dict.fromkeys(("chosen", "rejected", "rejected_response", "rejected_responses"), PREFERENCE),
    **dict.fromkeys(
        ("chosen_response", "rejected_images", "kto_tag", "rejected_message"), PREFERENCE
    ),
    **dict.fromkeys(("preferred_output", "non_preferred_output"), PREFERENCE),
    **dict.fromkeys(("loss_mask", "mask", "weight", "weights", "loss", "sample_weight"), _MASK),
    "train_detail": "masks of parts of an answer are not supported; give the turn 'loss': false",
}
"""Plain name of a field that would change what is learned and is not supported -> why."""

_SEVERAL_IMAGES = re.compile(r"(?:image|img|picture)_?(\d+)")
_REFUSED_KINDS = (("video", _VIDEO), ("audio", _AUDIO), ("speech", _AUDIO))
_PICTURE = re.compile(
    r"\.(?:jpe?g|png|gif|bmp|webp|tiff?|avif|heic|ppm|pgm|jp2|ico|tga)(?:[?#].*)?$|^data:image/",
    re.IGNORECASE,
)
_EMPTY = ("[]", "{}", "null", "none", "nan")
# What is in these fields is a list or an object, so a text such as "[]" says that there is none.
_LISTS = {*_CONTENTS, *(MEANINGS["images"]), *MEANINGS["options"], *MEANINGS["history"]}


@lru_cache(maxsize=4096)
def plain_name(name: str) -> str:
    """Return the plain form of a field's name."""
    seen = re.sub(r"[\u200b-\u200d\u2060\ufeff]", "", name).strip()
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", seen)
    return re.sub(r"[\s\-.]+", "_", apart).casefold()


def image_number(plain: str) -> int | None:
    """Return the number of a field such as ``image_2``; None of another field."""
    found = _SEVERAL_IMAGES.fullmatch(plain)
    return int(found[1]) if found else None


def says_none(plain: str, value: object) -> bool:
    """Return whether a text says that a field of lists or objects is empty, such as ``"[]"``."""
    return isinstance(value, str) and plain in _LISTS and value.strip().casefold() in _EMPTY


def why_refused(plain: str, value: object) -> str | None:
    """Return why an item with this field is refused; None where it is not."""
    filled = not isinstance(value, bool | int | float) and not says_none(plain, value)
    if plain in REFUSED and (filled or plain not in _CONTENTS):
        harmless = plain in ("weight", "loss", "sample_weight") and value in (1, True)
        return None if harmless else REFUSED[plain]
    if filled:
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
