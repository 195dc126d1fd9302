"""Register Co-LoRA as a PEFT method.

PEFT looks methods up by ``PeftType``, an enum that cannot be subclassed once it has members, and it
offers no plug-in loading. This module therefore enters the member ``COLORA`` by hand into the three
tables that make up an enum. A real member rather than a bare string is needed because PEFT and
``transformers`` read ``.value``, pickle it and write it to JSON.
"""

from __future__ import annotations

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import PeftType, register_peft_method

NAME = "colora"

SAVED_NAME = "COLORA: install fedmosaic and run 'import fedmosaic.adapters' before loading this"
"""The type in a saved ``adapter_config.json``. Without the import PEFT raises a KeyError of it."""


def peft_type() -> PeftType:
    """Return the member ``PeftType.COLORA``, created at the first call."""
    value = NAME.upper()
    if value in PeftType.__members__:
        return PeftType[value]
    member = str.__new__(PeftType, value)
    member._name_ = value
    member._value_ = value
    member._sort_order_ = len(PeftType.__members__)
    type.__setattr__(PeftType, value, member)
    PeftType._member_names_.append(value)
    PeftType._member_map_[value] = member
    PeftType._value2member_map_[value] = member
    return member


def register() -> None:
    """Enter Co-LoRA into PEFT's tables; a second call does nothing."""
    if peft_type() in PEFT_TYPE_TO_CONFIG_MAPPING:
        return
    from fedmosaic.adapters.config import CoLoraConfig
    from fedmosaic.adapters.model import CoLoraModel

    register_peft_method(name=NAME, config_cls=CoLoraConfig, model_cls=CoLoraModel)
    PEFT_TYPE_TO_CONFIG_MAPPING[SAVED_NAME] = CoLoraConfig
