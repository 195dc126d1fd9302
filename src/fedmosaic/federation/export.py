"""Export a client's adapter as an ordinary PEFT LoRA adapter."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel

from fedmosaic.adapters.export import Layout, export_to_folder
from fedmosaic.adapters.exported import ExportedLora
from fedmosaic.errors import ConfigError, ModelError
from fedmosaic.evaluation import Record
from fedmosaic.federation.model_card import Base, CardFacts, model_card
from fedmosaic.federation.stored_client import StoredClient
from fedmosaic.files import atomic_folder
from fedmosaic.models.kinds import takes_images


def export_client(stored: StoredClient, out: Path, layout: Layout = "peft") -> Path:
    """Write the adapter that a client uses, with a model card.

    The adapter is the first of the algorithm's views.

    Args:
        stored: the client.
        out: the folder to make; it appears complete or not at all.
        layout: ``peft``, or ``vllm`` for vLLM, llama.cpp and merging.

    Returns:
        the folder.

    Raises:
        ConfigError: ``out`` exists already.
        ModelError: the view mixes adapters anew for every input, which no single LoRA does; plain
            PEFT cannot load the adapter; or with ``vllm`` it has a bias.
    """
    require_new(out)
    local, algorithm = stored.local, stored.local.runtime.algorithm
    view = algorithm.views[0]
    with local.turn(trains=False) as context, algorithm.view(context, view) as model:
        if not isinstance(model, PeftModel):
            raise ModelError(
                f"{algorithm.name} mixes its adapters anew for every input, which no single LoRA "
                f"does; once the run has finished, {stored.adapters} holds each of them"
            )
        facts = _card_facts(stored, stored.last_scores(view))
        base, names = Base.of(local.spec.model), tuple(model.active_adapters)
        with atomic_folder(out) as work:
            export_to_folder(model, work, names, layout=layout, base_model=base.name)
            card = model_card(facts, ExportedLora.read(work), out.name)
            (work / "README.md").write_text(card + "\n", encoding="utf-8")
    return out


def require_new(out: Path) -> None:
    """Raise ConfigError if the folder to write exists."""
    if out.exists():
        raise ConfigError(f"{out} already exists; choose another --out")


def _card_facts(stored: StoredClient, scores: list[Record]) -> CardFacts:
    client, runtime = stored.local.spec, stored.local.runtime
    backbone = runtime.backbone(client.model)
    seeing = takes_images(backbone.model.config)
    dtype = str(backbone.dtype).removeprefix("torch.")
    return CardFacts(runtime.settings, client, stored.rounds, scores, seeing, dtype)
