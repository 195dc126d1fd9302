"""Find the options of a question, in its prompt or in a field, and the one that is right."""

from fedmosaic.data.options.choices import Choices, NotOffered, OptionsError
from fedmosaic.data.options.field import choices_of_field
from fedmosaic.data.options.match import match_option
from fedmosaic.data.options.prompt import choices_in_prompt
from fedmosaic.data.options.spelling import spelled
from fedmosaic.data.options.values import lists_nothing

__all__ = [
    "Choices",
    "NotOffered",
    "OptionsError",
    "choices_in_prompt",
    "choices_of_field",
    "lists_nothing",
    "match_option",
    "spelled",
]
