"""Take away what surrounds an answer: reasoning, special tokens, markup, typographic forms."""

from __future__ import annotations

import unicodedata

import regex

_NAMES = r"(?:think|thinking|thought|thoughts|reason|reasoning|reflection|analysis|scratchpad|cot)"
# An opening and a closing mark of a block of reasoning, as model families write them.
_OPEN = rf"<\|?(?:seed:)?{_NAMES}\|?>|\[{_NAMES}\]|◁{_NAMES}▷|<\|begin_of_{_NAMES}\|>"
_CLOSE = rf"</\|?(?:seed:)?{_NAMES}\|?>|\[/{_NAMES}\]|◁/{_NAMES}▷|<\|end_of_{_NAMES}\|>"
_BLOCK = regex.compile(rf"(?:{_OPEN})(?:(?!{_OPEN}).)*?(?:{_CLOSE})", regex.S | regex.I)
_CLOSED_ONLY = regex.compile(rf".*(?:{_CLOSE})", regex.S | regex.I)
_NEVER_CLOSED = regex.compile(rf"(?:{_OPEN}).*", regex.S | regex.I)
# The channels of Harmony: what is not in the final one is reasoning.
_FINAL_CHANNEL = regex.compile(r".*<\|channel\|>final<\|message\|>", regex.S)
_OTHER_CHANNEL = regex.compile(r"<\|channel\|>(?!final).*", regex.S)

_END_OF_TURN = regex.compile(
    r"<\|(?:im_end|eot_id|end|endoftext|end_of_text|eom_id|return|assistant_end)\|>"
    r"|</s>|<eos>|<end_of_turn>|<turn\|>|<｜end▁of▁sentence｜>|\[INST\]"
)
_SPECIAL = regex.compile(r"<[|｜][^<>|｜]{1,40}[|｜]>|</?s>|<(?:bos|pad|unk|start_of_turn)>")
# A base model goes on with the next question of its own making.
_NEXT_QUESTION = regex.compile(
    r"(?<=\S)\s*\n\W*(?:Question|Q|User|Human|Instruction)\s?\d*:.*", regex.S
)

_ANSWER_TAG = regex.compile(r"<(answer|final_answer|final)>(.*?)(?:</\1>|$)", regex.S | regex.I)
_BOXED = regex.compile(r"\\(?:boxed|fbox)\s*(\{(?:[^{}]|(?1))*\})")
_LATEX_FRACTION = regex.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")
_LATEX_TEXT = regex.compile(
    r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox|emph)\s*\{([^{}]*)\}"
)
_MATH = regex.compile(
    r"\$\$(.+?)\$\$|(?<![\w$])\$(?!\s)([^$\n]*[^\s$])\$(?!\w)|\\[(\[](.+?)\\[)\]]"
)
_HTML = regex.compile(r"</?(?:b|i|u|em|strong|p|span|div|code|mark|sup|sub|br)\s*/?>", regex.I)
_STRUCK = regex.compile(r"~~(?=\S)[^~]+~~|<(s|del|strike)>.*?</\1>", regex.S)
_MARKED = (  # Markdown's pairs, from the longest to the shortest
    regex.compile(r"\*{1,3}(?=\S)([^*\n]*[^*\s])\*{1,3}"),
    regex.compile(r"(?<!\w)_{1,3}(?=\S)([^_\n]*[^_\s])_{1,3}(?!\w)"),
    regex.compile(r"`{1,3}(?=\S)([^`]*[^`\s])`{1,3}"),
)
_LINE_START = regex.compile(r"(?m)^[ \t]*(?:#{1,6}[ \t]+|>[ \t]+(?![\d.])|[-*•‣▪][ \t]+(?![\d.]))")

_SAME_SIGNS = str.maketrans(
    {
        **dict.fromkeys("‘’‛ʼ＇`´", "'"),
        **dict.fromkeys("“”„‟", '"'),
        **dict.fromkeys("‐‑−﹣－", "-"),
        "′": "'", "″": "''", "‴": "'''", "⁄": "/", "‚": "'",
        "\u00a0": " ", "\u202f": " ", "\u2009": " ", "٪": "%", "٫": ".", "٬": ",", "\u0640": None,
    }
)  # fmt: skip
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
# Letters in a dark circle or square, which Unicode does not decompose.
_DARK = {base + i: chr(65 + i) for base in (0x1F150, 0x1F170) for i in range(26)}


def without_reasoning(text: str) -> str:
    """Return what a text says after its reasoning; a thought that never ends says nothing."""
    if "<|channel|>" in text:
        text = _OTHER_CHANNEL.sub("", _FINAL_CHANNEL.sub("", text))
    previous = None
    while previous != text:
        previous, text = text, _BLOCK.sub("\n", text)
    text = _NEVER_CLOSED.sub("", _CLOSED_ONLY.sub("", text))
    return text.strip()


def without_special_tokens(text: str) -> str:
    """Return a text up to the end of the turn, without tokens that are no words."""
    before = [part for part in _END_OF_TURN.split(text) if _SPECIAL.sub("", part).strip()]
    text = _SPECIAL.sub(" ", before[0]) if before else ""
    text = _NEXT_QUESTION.sub("", text)
    return text.strip()


def marked_answers(text: str) -> list[str]:
    """Return the contents of answer tags, or else of LaTeX boxes."""
    tags = [match[2].strip() for match in _ANSWER_TAG.finditer(text)]
    return tags or [match[1][1:-1].strip() for match in _BOXED.finditer(text)]


_ONE_LETTER = regex.compile(r"\s*<(\p{L})>\s*")
_ASSIGNED = regex.compile(r"(?i)\b[\w ]*(?:answer|ans|choice|option) *={1,2} *")
_EQUATION = regex.compile(r"(?<![\w=<>!.])(\p{L})=(?=[-−–]?\d)")
_TO_QUESTION = regex.compile(r"(?i)(?<=\banswer) to (?:the|this|your) question\b")


def without_markup(text: str) -> str:
    """Return a text without Markdown, LaTeX and HTML; what is struck out goes with its marks."""
    text = _ONE_LETTER.sub(r"\1", text) if _ONE_LETTER.fullmatch(text) else text
    text = _ANSWER_TAG.sub(r" \2 ", _STRUCK.sub(" ", text))
    text = _ASSIGNED.sub("answer: ", _TO_QUESTION.sub("", text))
    text = _BOXED.sub(lambda match: f" {match[1][1:-1]} ", text)
    text = _LATEX_FRACTION.sub(r"\1/\2", _LATEX_TEXT.sub(r"\1", text))
    text = _MATH.sub(lambda match: f" {match[1] or match[2] or match[3]} ", text)
    text = _HTML.sub(" ", text.replace("\\%", "%").replace("\\$", "$"))
    for pair in _MARKED:
        text = pair.sub(r"\1", text)
    text = _EQUATION.sub(r"\1 = ", _LINE_START.sub("", text))
    return text.strip().removeprefix("**").removesuffix("**")


def one_form(text: str) -> str:
    """Return one encoding of a text. Capitals and raised digits stay distinct: x³ becomes x^3."""
    text = regex.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text.translate(_DARK))
    text = regex.sub(r"[⁰¹²³⁴-⁹⁺⁻ⁿ]+", lambda match: "^" + match[0].translate(_RAISED), text)
    text = unicodedata.normalize("NFKC", text.translate(_SAME_SIGNS)).translate(_SAME_SIGNS)
    text = regex.sub(r"[\p{Cf}\u064b-\u0652\u0670]+", "", text)  # signs that print nothing; harakat
    text = text.replace("\u0e4d\u0e32", "\u0e33").replace("\u0ecd\u0eb2", "\u0eb3")
    text = regex.sub(r"[^\S\n]+", " ", text)
    text = regex.sub(r"(?<=\d) ?– ?(?=\d)", "-", text).replace(" & ", " and ")
    return text.strip()


_PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "«": "»", "‹": "›", "「": "」",
          "『": "』", "【": "】", "《": "》", "〈": "〉"}  # fmt: skip
_LIST_OF_NUMBERS = regex.compile(r"[^,;]*\d[^,;]*[,;].*")
_STOPS = ".。｡।॥۔"
_MARKS = _STOPS + "!?…,:;、，！？；：،؟؛¡¿~"


def unwrapped(text: str, marks: str = _STOPS) -> str:
    """Return a text without outer pairs of brackets and quotes and without ``marks`` at its ends.

    The brackets of an interval or a point stay. A factorial does, too.
    """
    previous = None
    while previous != text:
        previous = text
        text = text.strip()
        if len(text) > 2 and _is_wrapped(text):
            text = text[1:-1]
        if len(text) > 1 and text[-1] in marks and not regex.search(r"(?:\d|\b[a-z])!$", text):
            text = text[:-1]
        if len(text) > 1 and marks is not _STOPS and text[0] in "¡¿":
            text = text[1:]
    return text


def _is_wrapped(text: str) -> bool:
    """Return whether a pair of brackets or quotes stands around a text and is no part of it."""
    if _PAIRS.get(text[0]) != text[-1] or text[0] in text[1:-1]:
        return False
    return text[0] in "\"'«" or not _LIST_OF_NUMBERS.fullmatch(text[1:-1])


def without_all_marks(text: str) -> str:
    """Return a text without outer brackets, quotes and punctuation of any script."""
    return unwrapped(text, _MARKS)
