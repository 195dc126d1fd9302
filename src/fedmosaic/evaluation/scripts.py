"""Know what the writing systems of the world need: scripts without spaces, marks, forms."""

from __future__ import annotations

import unicodedata

import regex

# Scripts that put no spaces between words. A text in them is split into grapheme clusters.
# Script extensions hold the signs that several scripts share, such as the long-vowel mark of Kana.
_SIGNS = (
    r"\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}"
    r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Javanese}\p{Balinese}\p{Tai_Tham}"
)
UNSPACED = rf"[[{_SIGNS}]&&[\p{{L}}\p{{M}}\p{{N}}]--\p{{Hangul}}]"
"""A class of characters, for a pattern of the ``regex`` package with its flag ``V1``."""

_PIECE = regex.compile(rf"(?={UNSPACED})\X|(?:(?!{UNSPACED})\X)+", regex.V1)
# Marks that print as an apostrophe, a hyphen or a minus sign, and the fraction slash.
_SAME_SIGNS = str.maketrans(
    {
        **dict.fromkeys("‘’‛ʼʹ′＇´`", "'"),
        **dict.fromkeys("“”„‟«»″", '"'),
        **dict.fromkeys("‐‑−﹣－", "-"),
        "⁄": "/",
    }
)


def standard_form(text: str) -> str:
    """Return one form of texts that differ only in encoding, width or capitals.

    It is in Unicode's NFKC, case-folded, with ASCII apostrophes, quotes, hyphens and minus signs,
    and without characters that print nothing, such as a soft hyphen or a joiner.
    """
    text = unicodedata.normalize("NFKC", text.translate(_SAME_SIGNS)).translate(_SAME_SIGNS)
    text = regex.sub(r"\p{Cf}+", "", text.casefold())
    # NFKC splits the vowel AM of Thai and Lao, which is one sign.
    return text.replace("\u0e4d\u0e32", "\u0e33").replace("\u0ecd\u0eb2", "\u0eb3")


def split_unspaced(word: str) -> list[str]:
    """Split a word where its script puts no spaces.

    Args:
        word: A text without spaces, such as ``iphone手机``.

    Returns:
        Its grapheme clusters in scripts without spaces, and what stands between them whole:
        ``["iphone", "手", "机"]``.
    """
    return [match[0] for match in _PIECE.finditer(word)]
