"""Score a generated answer by token F1 or ROUGE-L, in [0, 1].

Both are defined for English. For ASCII texts the words are exactly those of SQuAD's script (F1) and
of the ``rouge-score`` package without stemming (ROUGE-L). Other texts follow the same rules by
Unicode's categories: punctuation of every script is none of a word, a combining mark is part of
it, and a text in a script without spaces (Han, Kana, Thai, Lao, Khmer, Myanmar …) counts by
grapheme clusters, because no splitting into words is agreed on.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence

import regex

from fedmosaic.evaluation.scripts import split_unspaced, standard_form

_ARTICLES = regex.compile(r"(?<![\w\p{M}])(a|an|the)(?![\w\p{M}])")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Punctuation and currency signs beyond ASCII. They stand between words, as a dash does.
_OTHER_PUNCTUATION = regex.compile(r"(?![\x00-\x7f])[\p{P}\p{Sc}]")
_ROUGE_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")


def words_of(text: str) -> list[str]:
    """Split a text into words by SQuAD's normalisation (Rajpurkar et al., arXiv 1606.05250).

    Words are lower-cased, without punctuation and without the articles a, an and the.
    """
    plain = standard_form(text.replace("…", " "))
    plain = _OTHER_PUNCTUATION.sub(" ", plain).translate(_PUNCTUATION)
    return [part for word in _ARTICLES.sub(" ", plain).split() for part in split_unspaced(word)]


def token_f1(prediction: str, reference: str) -> float:
    """Return F1 = 2PR/(P + R) over the multisets of words.

    P is the number of common words over that of the prediction, R over that of the reference.
    Without common words it is 0. Two texts that are both empty after normalisation score 1.
    """
    predicted, expected = words_of(prediction), words_of(reference)
    common = sum((Counter(predicted) & Counter(expected)).values())
    return _f_measure(common, predicted, expected)


def rouge_l(prediction: str, reference: str) -> float:
    """Return the ROUGE-L F-measure, 2PR/(P + R) (Lin 2004, section 3.1, β = 1).

    P is the length of the longest common subsequence of words over that of the prediction, R over
    that of the reference. Words are lower-cased runs of letters and digits, articles included.
    Two texts without words score 1.
    """
    predicted, expected = _rouge_words(prediction), _rouge_words(reference)
    return _f_measure(_longest_common_subsequence(predicted, expected), predicted, expected)


def _f_measure(common: int, predicted: Sequence[str], expected: Sequence[str]) -> float:
    if not predicted or not expected:
        return float(predicted == expected)
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(expected)
    return 2 * precision * recall / (precision + recall)


def _rouge_words(text: str) -> list[str]:
    words = _ROUGE_WORD.findall(standard_form(text))
    return [part for word in words for part in split_unspaced(word)]


def _longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for column, other in enumerate(b, start=1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]
