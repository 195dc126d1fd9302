"""The words of the miniature world, by kind: what every tokenizer must know and what the pretraining corpus must use.

``CODE_WORDS`` mean nothing by themselves. Pretraining shows them only in echo items (copying), so a base can say them but knows no
meaning; each task family gives some of them a meaning of its own, which only its training examples tell.
"""

from __future__ import annotations

CODE_WORDS: tuple[str, ...] = (
    "blick", "dax", "wug", "toma", "fep", "zav", "gorp", "lumo", "nirb", "kiva", "sotu", "pendo",
    "mibo", "tulver", "drog", "quib", "yalp", "hesk", "jund", "vorn", "clem", "briv", "snad", "plost",
    "gazzer", "koba", "lirp", "mosk", "niz", "olm", "ruf", "spen", "thrum", "ulka", "wem", "yost",
    "zibbo", "abbin", "cavo", "dusp", "egmo", "fusk", "gliff", "hobb", "irva", "jask", "kelv", "lunt",
    "mell", "norp", "pim", "quel", "rask", "sheb", "trog", "umba", "vek", "wost", "zorl", "chiv",
    "delf", "frab", "grun", "haxo",
)  # fmt: skip

YES_NO: tuple[str, ...] = ("yes", "no")
TRUE_FALSE: tuple[str, ...] = ("true", "false")
NUMBERS: tuple[str, ...] = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
ORDINALS: tuple[str, ...] = ("first", "second", "third", "fourth")
DIRECTIONS: tuple[str, ...] = ("north", "east", "south", "west")
PLACES: tuple[str, ...] = ("left", "right", "top", "bottom", "middle")

# The ordinary words (lower case) that task questions are made of, beside those above and the names of colours, shapes, sizes, ...
QUESTION_WORDS: tuple[str, ...] = (
    "a", "all", "and", "are", "as", "at", "bar", "before", "belong", "belongs", "best", "between", "bigger", "change", "charts", "clock",
    "code", "colour", "comes", "count", "die", "differ", "does", "each", "edit", "fewer", "fits", "from", "goes", "group", "has", "have",
    "highest", "how", "idiom", "image", "images", "in", "is", "it", "kind", "kinds", "lowest", "made", "many", "means", "more", "most", "name",
    "next", "not", "number", "object", "objects", "odd", "of", "on", "one", "or", "order", "pair", "place", "rule", "same", "score", "set",
    "shape", "show", "shows", "side", "sign", "size", "smaller", "state", "sum", "texture", "than", "the", "there", "these", "this", "time",
    "to", "two", "what", "when", "where", "which", "who", "wins", "with", "worth",
)  # fmt: skip

OPTIONS = "Options:"


def with_options(question: str, options: tuple[str, ...]) -> str:
    """The text of a choice question: ``"QUESTION Options: a, b, c"``."""
    return f"{question} {OPTIONS} {', '.join(options)}"
