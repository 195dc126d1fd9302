"""List the words that announce options, and those that begin an instruction behind them."""

from __future__ import annotations

import re

_NOUN = (
    r"(?:(?:answer|multiple|possible|candidate|available|given|following|allowed|response)[\s-]+)*"
    r"(?:choice\s+list|choice\s+set|choices|choice(?=\s*[:：=]\s*\[)|options|option\s+list|alternatives|candidates"
    r"|(?:possible|candidate|allowed|available|answer)\s+(?:answers|labels)"
    r"|Optionen|Auswahl(?:möglichkeiten)?|Antwortmöglichkeiten|opciones|alternativas|opções|opzioni"
    r"|choix|réponses\s+possibles|варианты(?:\s+ответ(?:а|ов))?|opcje|opties|pilihan|seçenekler"
    r"|lựa\s+chọn|alternativ|विकल्प|الخيارات|ตัวเลือก)"
)
_NOUN_UNSPACED = (
    r"(?:选项|選項|选择|選擇|选择项|候选(?:项|答案)?|候選|备选(?:答案|项)?|備選|可选(?:项|答案)?"
    r"|選択肢|選択|보기|선택지|선택\s*항목|선택|選んで(?:ください)?|選びなさい|고르(?:시오|세요)|선택하(?:시오|세요))"
)
_CHOOSE = r"(?:choose|select|pick)"
# "Choose one of the following:" has no other words; "Choose a title for this text:" has.
_ANSWER_WITH = r"(?:answer|respond|reply)\s+(?:with|using)\s+(?:only\s+)?one\s+of"
_VERB = (
    rf"(?P<plain_verb>(?:{_CHOOSE}|{_ANSWER_WITH})(?:\s+(?:one|the|from|of|out|among|between|these|this|following|below"
    r"|correct|right|best|most|appropriate|single|option|answer|choice|word|label|list|given))*)"
    rf"|{_CHOOSE}\b[^.?!\n:：\[\]]{{0,60}}"
)
_BOLD = r"(?:\*\*|__)?"
HEADER = re.compile(
    rf"(?:(?:(?<![^\W\d_])(?:(?P<noun>{_NOUN})|(?P<loose_noun>labels|categories|classes))|(?P<noun_unspaced>{_NOUN_UNSPACED}))"
    rf"(?:\s+(?:are|is|below|given|include|included|listed|to\s+choose\s+from)\b|如下|有|为|是|包括)*"
    rf"|(?P<verb>(?<![^\W\d_])(?:{_VERB})(?![^\W\d_])))"
    rf"[^\S\n]*(?:[(（][^()（）\n]{{0,40}}[)）])?[^\S\n]*{_BOLD}[^\S\n]*"
    rf"(?:[:：=]{_BOLD}|(?=\[)|(?<=[*_])(?=\s*\n))",
    re.IGNORECASE,
)
"""A word for options with its colon. The groups ``noun`` are empty for "Choose one:"."""

BULLET = re.compile(r"^[^\S\n]*[-•·▪◦‣●○*+](?!\*)\s+")

INSTRUCTION_VERB = re.compile(
    r"^(?:please\s+|then\s+|now\s+|finally,?\s+|do\s+not\s+|don['’]t\s+|only\s+)*"
    r"(?:answer|reply|respond|choose|select|pick|give|write|output|return|indicate|provide|explain"
    r"|describe|look|read|think|count|use|state|mark|say|tell|list|identify|examine|consider)\b",
    re.IGNORECASE,
)

_ASK = (
    r"(?:\*\*)?(?:(?:please|now|then|only|just)\b,?\s+)*"
    r"(?:(?:(?:your|the|my|final|correct|best|short)\s+)*(?:answer|response|solution)\b"
    r"|(?:answer|reply|respond|choose|select|pick|give|write|output|return|indicate|provide|explain"
    r"|think|do\s+not|note|use|mark|state)\b)"
)
_ASK_UNSPACED = r"(?:请|請|你的回答|回答|答案|答[:：]|答え|正解|정답|답[:：]|대답)"
INSTRUCTION_LINE = re.compile(
    rf"^\s*(?:{_ASK}|{_ASK_UNSPACED}|(?:question|q|context)\s*[:：])", re.I
)

TAIL = re.compile(
    rf"(?:(?<=[.!?])\s+|\n\s*){_ASK}.*$"
    rf"|(?:(?<=[.!?。！？])\s*|\s+){_ASK_UNSPACED}.*$"
    r"|\s+(?-i:Answer\s+(?:with|in|using|by)\b|Answer\s*:|Your answer\b|Please\b|The answer\b).*$"
    r"|(?<=\S\.)\s+[^.?]*\?\s*$",
    re.IGNORECASE | re.DOTALL,
)
"""An instruction behind the last option, on its line, or a question."""

QUESTION = re.compile(r"[?？]")
SENTENCE_END = re.compile(r"[.!。！\n]")
QUESTION_WORD = re.compile(
    r"\b(?:which|choose|select|pick|multiple[\s-]choice)\b|哪|选|選|どれ|고르|고르시오",
    re.IGNORECASE,
)
SENTENCE_START = re.compile(r"[.?!。？！:：;；)\]）】>\"”]\s*|\n\s*")
ROMANCE = re.compile(r"opciones|alternativas|opções|opzioni|choix", re.IGNORECASE)
ANNOUNCING = re.compile(
    r"^\W*(?:here\s+are\s+)?(?:the|some)\s*$|\b(?:choose|select|pick|from|following|given|these|answer|possible|your)\b|以下|下列|这些|从|次の|다음",
    re.IGNORECASE,
)
LABELS_ASKED = re.compile(
    r"\b(?:letter|option['’]s\s+number|number\s+of\s+the\s+(?:option|answer|choice))\b|字母|序号|문자|번호|記号",
    re.IGNORECASE,
)
