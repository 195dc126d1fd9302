"""Find the option that equals a text, or that alone differs from it in small ways only."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from fedmosaic.data.options.choices import OptionsError, listed, shortened

_QUOTES = str.maketrans("‘’‚‛′“”„‟″", "'''''\"\"\"\"\"")
_QUOTED = re.compile(r"""^(['"`«「『])(.*)(['"`»」』])$""", re.S)
_HYPHENS = re.compile(r"(?<=\w)[-_‐‑](?=\w)")


def match_option(answer: str, options: Sequence[str]) -> int | None:
    """Return the place of the option that an answer spells out; None if there is none.

    An option that equals the answer counts first. Otherwise these differences are ignored, one
    after the other: blanks, forms of one character, a final full stop, quotes around the text,
    capitals, hyphens. The first step at which options fit decides. Equal options count as one, and
    its first place is returned.

    Raises:
        OptionsError: several different options fit at that step.
    """
    for fold in FOLDS:
        wanted = fold(answer)
        fitting = [index for index, option in enumerate(options) if fold(option) == wanted]
        if len({options[index] for index in fitting}) > 1:
            raise OptionsError(
                "answer",
                f"{shortened(answer)} fits several options, "
                f"{listed(sorted({options[index] for index in fitting}))}, and equals none; "
                "write the answer exactly as its option",
            )
        if fitting:
            return fitting[0]
    return None


def exact(text: str) -> str:
    """Return a text with single blanks: white space never tells options apart."""
    return " ".join(text.split())


def folded(text: str) -> str:
    """Return a text without the differences that :func:`match_option` ignores."""
    return _unhyphened(text)


def _one_form(text: str) -> str:
    """Unify composed letters, full-width letters and typographic quotes; ³ and 3 stay apart."""
    composed = unicodedata.normalize("NFC", text.translate(_QUOTES))
    return exact(
        "".join(
            unicodedata.normalize("NFKC", letter) if "\uff01" <= letter <= "\uffee" else letter
            for letter in composed
        )
    )


def _unstopped(text: str) -> str:
    plain = _one_form(text)
    return plain[:-1].rstrip() if len(plain) > 1 and plain[-1] in ".。" else plain


def _unquoted(text: str) -> str:
    plain = _unstopped(text)
    quoted = _QUOTED.match(plain)
    return _unstopped(quoted[2]) if quoted and quoted[2].strip() else plain


def _small(text: str) -> str:
    return _unquoted(text).casefold()


def _unhyphened(text: str) -> str:
    return _HYPHENS.sub(" ", _small(text))


FOLDS: tuple[Callable[[str], str], ...] = (
    str.strip,
    exact,
    _one_form,
    _unstopped,
    _unquoted,
    _small,
    _unhyphened,
)
