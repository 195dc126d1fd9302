"""Check models one after the other, and what they can share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

from fedmosaic.adapters.coverage import adapted
from fedmosaic.config import AdapterSettings
from fedmosaic.data.example import Example
from fedmosaic.model_check.encoding import compare
from fedmosaic.model_check.facts import facts_of
from fedmosaic.model_check.items import made_items
from fedmosaic.model_check.problems import collected, noted
from fedmosaic.model_check.report import CheckedItem, CheckedModel
from fedmosaic.model_check.settings import CheckSettings
from fedmosaic.model_check.sharing import share
from fedmosaic.model_check.training import load_export, take_step
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.loading import ModelOptions
from fedmosaic.models.prefix import takes_suffix
from fedmosaic.relevance.signature import signature_kind

Progress = Callable[[str, str], None]
"""Take the name of a model and what is done with it next."""


def check_models(
    names: Sequence[str],
    settings: CheckSettings,
    items: Sequence[Example] | None = None,
    progress: Progress = lambda name, step: None,
) -> list[CheckedModel]:
    """Check models one after the other; what is wrong with one does not stop the others.

    Args:
        names: their names, as in a scenario.
        settings: how they are loaded and adapted.
        items: items of the user's data; None: items that are made here.
        progress: notified of every step.

    Returns:
        one result for each name, in order.
    """
    results = {name: CheckedModel(name) for name in names}
    loaded: dict[str, Backbone] = {}
    for name, result in results.items():
        progress(name, "loading")
        with noted(result), collected(result, "loading"):
            loaded[name] = _load(name, settings)
    adapters = share(loaded, results, settings.adapter)
    for name, backbone in loaded.items():
        with noted(results[name]):
            examples = _check_encoding(backbone, results[name], items, progress)
            if name in adapters:
                _check_training(backbone, results[name], adapters[name], examples, progress)
    if items is not None:
        for result in results.values():
            result.items = result.items or []
    return [results[name] for name in names]


def _load(name: str, settings: CheckSettings) -> Backbone:
    chosen = {field.name: getattr(settings.models, field.name) for field in fields(ModelOptions)}
    return Backbone.load(name, ModelOptions(**chosen))


def _check_encoding(
    backbone: Backbone,
    result: CheckedModel,
    items: Sequence[Example] | None,
    progress: Progress,
) -> list[Example]:
    """Compare ids and loss with plain Transformers; return the items that the model takes."""
    progress(result.name, "ids and loss")
    result.family = backbone.model.config.model_type
    seen: list[tuple[Example, CheckedItem]] = []
    with collected(result, "encoding"):
        if items is None:
            first, others = made_items(backbone)
            seen = compare(backbone, result, [first], others)
        else:
            seen = compare(backbone, result, items)
            result.items = [item for _, item in seen]
    result.image_tokens = _tokens_of_a_picture(backbone, seen)
    if takes_suffix(backbone.chat, backbone.processor):
        result.add_note("it takes one question about pictures and its answer, nothing else")
    elif not backbone.chat.has_template:
        result.add_note(
            "it has no chat template: conversations are written in a format of fedmosaic's own "
            "(USER: … ASSISTANT: …), and the ids are compared with its tokenizer's of that text"
        )
    return [example for example, _ in seen]


def _tokens_of_a_picture(
    backbone: Backbone, seen: Sequence[tuple[Example, CheckedItem]]
) -> int | None:
    if backbone.images is None:
        return 0
    counts = (item.image_tokens for example, item in seen if len(example.images) == 1)
    return next(counts, backbone.images.tokens_per_image)


def _check_training(
    backbone: Backbone,
    result: CheckedModel,
    adapter: AdapterSettings,
    examples: Sequence[Example],
    progress: Progress,
) -> None:
    """Say what is adapted and how signatures are made; train for one step and export."""
    with collected(result, "counting its parameters"):
        result.facts = facts_of(backbone)
        result.coverage = adapted(backbone, adapter)
    progress(result.name, "signature")
    with collected(result, "the signature"):
        result.signature = signature_kind(backbone)
    if not examples:
        return
    progress(result.name, "training step")
    with collected(result, "a training step"):
        trained = take_step(backbone, examples, adapter)
        result.step, result.step_loss = True, trained.loss
        result.adapter_memory = trained.memory
        progress(result.name, "export")
        with collected(result, "the export"):
            result.export_difference = load_export(backbone, trained.model, examples)
            result.export = True
