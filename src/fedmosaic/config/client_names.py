"""Say which names clients may have. Files and folders of a run are named after its clients."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

RULE = "a name has letters and digits of any script, and between them blanks and the signs . _ -"
_LONGEST = 120  # in UTF-8; file names have at most 255 bytes, with what is put around the name
_RESERVED = {"con", "prn", "aux", "nul", *(f"{p}{k}" for p in ("com", "lpt") for k in range(10))}
_FORMER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def fault(name: str, recorded: bool = False) -> str:
    """Return why a client cannot have this name, as a sentence; empty if it can.

    Args:
        name: the name.
        recorded: whether a run folder has it. All names of earlier versions are then right, too.
    """
    if recorded and _FORMER.fullmatch(name):
        return ""
    if not name:
        return "a client needs a name"
    for character in name:
        if not _in_a_word(character) and character not in "._- ":
            shown = repr(character) if character.isprintable() else f"U+{ord(character):04X}"
            return f"the character {shown} cannot stand in a name: {RULE}"
    if not _in_a_word(name[0]) or name[-1] in ". ":
        return f"a name begins with a letter or digit, and ends with no point or blank: {RULE}"
    if len(name.encode()) > _LONGEST:
        return f"it takes {len(name.encode())} bytes in UTF-8; at most {_LONGEST} fit a file's name"
    if name.partition(".")[0].strip().lower() in _RESERVED:
        return "Windows reserves this name for a device; choose another one"
    return ""


def same_file(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two names whose files are one where a disk ignores capitals; else None.

    Letters that are written in two ways (é as one character, or e and an accent) count as one.
    """
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        if key in seen:
            return seen[key], name
        seen[key] = name
    return None


def _in_a_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"
