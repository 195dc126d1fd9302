"""List the words of the miniature world, which every tokenizer and the pretraining corpus cover.

:data:`CODE_WORDS` have no meaning of their own. Pretraining shows them only where words are to be
copied, so a pretrained model can produce them without knowing a meaning. Each task family gives
some of them a meaning, which only its training examples tell.
"""

from __future__ import annotations

CODE_WORDS: tuple[str, ...] = (
    "blick", "dax", "wug", "toma", "fep", "zav", "gorp", "lumo", "nirb", "kiva", "sotu", "pendo",
    "mibo", "tulver", "drog", "quib", "yalp", "hesk", "jund", "vorn", "clem", "briv", "snad",
    "plost", "gazzer", "koba", "lirp", "mosk", "niz", "olm", "ruf", "spen", "thrum", "ulka", "wem",
    "yost", "zibbo", "abbin", "cavo", "dusp", "egmo", "fusk", "gliff", "hobb", "irva", "jask",
    "kelv", "lunt", "mell", "norp", "pim", "quel", "rask", "sheb", "trog", "umba", "vek", "wost",
    "zorl", "chiv", "delf", "frab", "grun", "haxo",
)  # fmt: skip

YES_NO: tuple[str, ...] = ("yes", "no")
TRUE_FALSE: tuple[str, ...] = ("true", "false")
NUMBERS: tuple[str, ...] = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve",
)  # fmt: skip
ORDINALS: tuple[str, ...] = ("first", "second", "third", "fourth")
COMPASS_DIRECTIONS: tuple[str, ...] = ("north", "east", "south", "west")
PLACES: tuple[str, ...] = ("left", "right", "top", "bottom", "middle")

# Other words of the tasks' questions, in lower case. The questions also use the words above and the
# names of what is drawn.
QUESTION_WORDS: tuple[str, ...] = (
    "a", "all", "and", "are", "at", "bar", "before", "belong", "best", "between", "breaks",
    "change", "colour", "comes", "does", "edit", "fewer", "fit", "fits", "from", "good", "grade",
    "has", "how", "image", "images", "in", "is", "it", "kind", "last", "like", "many", "mean",
    "means", "more", "move", "name", "next", "number", "of", "odd", "pair", "pass", "place", "rule",
    "same", "set", "shape", "show", "shows", "state", "texture", "the", "there", "these", "this",
    "to", "what", "where", "which", "who", "wins",
)  # fmt: skip

OPTIONS = "Options:"


def with_options(question: str, options: tuple[str, ...]) -> str:
    """Return the text of a choice question: ``"QUESTION Options: a, b, c"``."""
    return f"{question} {OPTIONS} {', '.join(options)}"
