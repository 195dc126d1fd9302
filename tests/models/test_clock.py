"""Templates that read the clock are shown one time: of the run, or of the call."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any

import pytest
from transformers.utils import chat_template_utils

from fedmosaic.data import Turn
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.chat import ChatFormat
from fedmosaic.models.clock import current_time

TURNS = (Turn("user", "Which bird?"), Turn("assistant", "a heron"))
DATED = (
    "Today is {{ strftime_now('%d %B %Y %H:%M:%S') }}.\n{% for m in messages %}"
    "<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
)
LIKE_LLAMA = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}{% set date_string = '-' %}"
    "{% endif %}{% endif %}{{ date_string }}\n{% for m in messages %}"
    "<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
)


@pytest.fixture(scope="module")
def model() -> Backbone:
    return Backbone.load("miniature/llama-8x96")


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock that Transformers reads goes on by a day at every look."""

    class Clock(datetime):
        days = 0

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            cls.days += 1
            return datetime(2026, 1, 1, 12) + timedelta(days=cls.days)

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)


def chat(model: Backbone, template: str, holder: str) -> ChatFormat:
    """Return a chat whose template the processor or the tokenizer holds."""
    processor, tokenizer = copy.copy(model.processor), copy.copy(model.tokenizer)
    processor.chat_template = template if holder == "processor" else None
    tokenizer.chat_template = template
    return ChatFormat("tiny", tokenizer, processor)


@pytest.mark.parametrize("holder", ["processor", "tokenizer"])
@pytest.mark.parametrize("template", [DATED, LIKE_LLAMA])
@pytest.mark.usefixtures("running")
def test_a_template_is_shown_one_time(model: Backbone, template: str, holder: str) -> None:
    made = chat(model, template, holder)
    first = made.render(TURNS)
    assert first == made.render(TURNS) and made.time.strftime("%d ") in first
    assert len({made.locate(TURNS, "e").text for _ in range(2)}) == 1
    made.time = datetime(1999, 12, 31, 23, 59, 58)
    assert made.render(TURNS).startswith(("Today is 31 December 1999 23:59:58.", "31 Dec 1999\n"))


def test_a_template_without_a_clock_stays_as_it_is(model: Backbone) -> None:
    assert chat(model, DATED.partition(".\n")[2], "processor").clock == {}
    assert DATED in chat(model, DATED, "processor").clock["chat_template"]


FORMATS = [
    *("%d %B %Y", "%Y-%m-%dT%H:%M:%S", "%A, %-d. %b", "%I:%M %p", "100 %% on day %j", "%%d", "%d%"),
    *("%d%%%m", "", "no code", "%y%U%W%V", "%c|%x|%X", "%%%%", "50% of %Y"),
]


@pytest.mark.parametrize("form", FORMATS)
def test_times_are_written_as_strftime_does(model: Backbone, form: str) -> None:
    made = chat(model, "|{{ strftime_now(" + repr(form) + ") }}|" + DATED, "tokenizer")
    for made.time in (datetime(2026, 3, 7, 4, 5, 6), datetime(1999, 12, 31, 23, 59, 58)):
        assert made.render(TURNS).startswith(f"|{made.time.strftime(form)}|")


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize(
    "before", ["", "\n", "  \n ", "{% set x = 1 %}\n", "{{- '' }}", "{#- n #}"]
)
def test_all_else_is_written_as_before(model: Backbone, before: str) -> None:
    inside = "{% macro m() %}{{ strftime_now('%Y') }}{% endmacro %}{{ m() }}"
    template = before + "{{ bos_token }} " + inside + DATED.partition("}}.")[2]
    made, tokenizer = chat(model, template, "tokenizer"), copy.copy(model.tokenizer)
    tokenizer.chat_template = template
    own = tokenizer.apply_chat_template(made.messages(TURNS), tokenize=False)
    assert made.render(TURNS) == own


def test_the_time_of_a_call_is_when_the_model_is_loaded(model: Backbone) -> None:
    before = current_time()
    assert before <= chat(model, DATED, "processor").time <= current_time()
    assert before.tzinfo is not None and not before.microsecond
