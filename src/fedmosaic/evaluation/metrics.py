"""Score a generated answer by token F1 or ROUGE-L, in [0, 1]."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def words_of(text: str) -> list[str]:
    """Split a text into words by SQuAD's normalisation (Rajpurkar et al., arXiv 1606.05250).

    It has lower case, no punctuation and no articles.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_PUNCTUATION)
    return _ARTICLES.sub(" ", plain).split()


def token_f1(prediction: str, reference: str) -> float:
    """Return F1 = 2PR/(P + R) over the multisets of words.

    P is the number of common words over that of the prediction, R over that of the reference.
    Without common words it is 0. Two texts that are both empty after normalisation score 1.
    """
    predicted, expected = words_of(prediction), words_of(reference)
    if not predicted or not expected:
        return float(predicted == expected)
    common = sum((Counter(predicted) & Counter(expected)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(expected)
    return 2 * precision * recall / (precision + recall)


def rouge_l(prediction: str, reference: str) -> float:
    """Return the ROUGE-L F-measure, 2PR/(P + R) (Lin 2004, section 3.1, β = 1).

    P is the length of the longest common subsequence of words over that of the prediction, R over
    that of the reference. Words are lower-cased runs of letters and digits, articles included.
    """
    predicted, expected = _rouge_words(prediction), _rouge_words(reference)
    if not predicted or not expected:
        return float(predicted == expected)
    common = _longest_common_subsequence(predicted, expected)
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(expected)
    return 2 * precision * recall / (precision + recall)


def _rouge_words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def _longest_common_subsequence(a: list[str], b: list[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for column, other in enumerate(b, start=1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]
