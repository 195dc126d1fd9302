"""Know the names that PEFT takes for those of experts, wherever in a model they occur."""

from __future__ import annotations

from peft.utils import transformers_weight_conversion as conversion


def names_of_experts(model_type: str) -> frozenset[str]:
    """Return the names that PEFT turns into those of fused experts in models of this type.

    Transformers 5 keeps all experts of a layer in one tensor. So that adapters of Transformers 4
    still load, PEFT replaces these names in ``target_modules`` by that tensor, also where they
    mean the MLP of a layer without experts or a shared expert. Such a module cannot be adapted by
    PEFT, and an adapter on it could not be loaded again.
    """
    families = getattr(conversion, "_MODEL_TO_CONVERSION_PATTERN", {})
    names = getattr(conversion, "_MOE_TARGET_MODULE_MAPPING", {})
    return frozenset(names.get(families.get(model_type), ()))
