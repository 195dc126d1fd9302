"""Give chat templates that read the clock a time that stays the same.

Transformers gives every template a function ``strftime_now(format)``, with which some write the
date into the prompt (Llama 3, SmolLM). It takes no functions from its callers, only plain values.
So a macro of that name is put before the template. It looks the parts of a time up in a table.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

_FUNCTION = "strftime_now"
_TABLE = "fedmosaic_time"
# The codes of strftime that C knows; glibc knows the same without a leading zero (%-d).
_CODES = "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ"
_MACRO = f"""
{{%- macro {_FUNCTION}(format) -%}}
{{%- set parts = format.split('%') -%}}{{%- set sign = namespace(written=false) -%}}
{{{{- parts[0] -}}}}
{{%- for part in parts[1:] -%}}
{{%- if sign.written -%}}{{%- set sign.written = false -%}}{{{{- part -}}}}
{{%- elif part == '' -%}}{{%- set sign.written = true -%}}{{{{- '%' -}}}}
{{%- elif part[:2] in {_TABLE} -%}}{{{{- {_TABLE}[part[:2]] ~ part[2:] -}}}}
{{%- elif part[:1] in {_TABLE} -%}}{{{{- {_TABLE}[part[:1]] ~ part[1:] -}}}}
{{%- else -%}}{{{{- '%' ~ part -}}}}
{{%- endif -%}}{{%- endfor -%}}
{{%- endmacro %}}{{{{- '' }}}}"""  # behind an expression, white space of the template stays


def clock_arguments(template: Any, at: datetime) -> dict[str, Any]:
    """Return the arguments of ``apply_chat_template`` that show a template this time.

    Args:
        template: the model's chat template, or several by name, of which ``default`` is used.
        at: the time.

    Returns:
        the template with a clock of its own, and the time; empty if it reads no clock.
    """
    text = template.get("default", "") if isinstance(template, dict) else template or ""
    if _FUNCTION not in text:
        return {}
    table = {}
    for code in [*_CODES, *(f"-{code}" for code in "dHIjmMS")]:
        with suppress(ValueError):  # some systems refuse codes that they do not know
            table[code] = at.strftime(f"%{code}")
    return {"chat_template": _MACRO + text, _TABLE: table}


def current_time() -> datetime:
    """Return the time of now, in the local time zone, to the second."""
    return datetime.now().astimezone().replace(microsecond=0)
