"""Export a client's adapter from a run folder as an ordinary PEFT LoRA adapter."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel

from fedmosaic.adapters.export import Layout, export_to_folder
from fedmosaic.adapters.exported import ExportedLora
from fedmosaic.config import ClientSpec, RunSettings
from fedmosaic.errors import ConfigError, ModelError
from fedmosaic.evaluation import Record
from fedmosaic.federation.model_card import Base, CardFacts, model_card
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.stored_client import load_client
from fedmosaic.files import atomic_folder
from fedmosaic.models.kinds import takes_images


def export_client(
    folder: RunFolder,
    settings: RunSettings,
    client: ClientSpec,
    out: Path,
    layout: Layout = "peft",
) -> Path:
    """Write the adapter that a client uses, as of the latest checkpoint, with a model card.

    The adapter is the first of the algorithm's views.

    Args:
        folder: the run folder.
        settings: the run.
        client: the client.
        out: the folder to make; it appears complete or not at all.
        layout: ``peft``, or ``vllm`` for vLLM, llama.cpp and merging.

    Returns:
        the folder.

    Raises:
        ConfigError: ``out`` exists already.
        CheckpointError: the run has no checkpoint yet.
        ModelError: the view mixes adapters anew for every input, which no single LoRA does; plain
            PEFT cannot load the adapter; or with ``vllm`` it has a bias.
    """
    require_new(out)
    stored = load_client(folder, settings, client)
    local, rounds, runtime = stored.local, stored.rounds, stored.local.runtime
    view = runtime.algorithm.views[0]
    with local.turn(trains=False) as context, runtime.algorithm.view(context, view) as model:
        if not isinstance(model, PeftModel):
            raise ModelError(
                f"{settings.algorithm} mixes its adapters anew for every input, which no single "
                f"LoRA does; once the run has finished, {folder.path / 'adapters' / client.name} "
                "holds each of them"
            )
        scores = _last_scores(folder, client.name, view, rounds)
        facts = _card_facts(runtime, client, rounds, scores)
        base, names = Base.of(client.model), tuple(model.active_adapters)
        with atomic_folder(out) as work:
            export_to_folder(model, work, names, layout=layout, base_model=base.name)
            card = model_card(facts, ExportedLora.read(work), out.name)
            (work / "README.md").write_text(card + "\n", encoding="utf-8")
    return out


def require_new(out: Path) -> None:
    """Raise ConfigError if the folder to write exists."""
    if out.exists():
        raise ConfigError(f"{out} already exists; choose another --out")


def _card_facts(
    runtime: Runtime, client: ClientSpec, rounds: int, scores: list[Record]
) -> CardFacts:
    backbone = runtime.backbone(client.model)
    seeing = takes_images(backbone.model.config)
    dtype = str(backbone.dtype).removeprefix("torch.")
    return CardFacts(runtime.settings, client, rounds, scores, seeing, dtype)


def _last_scores(folder: RunFolder, client: str, view: str, rounds: int) -> list[Record]:
    """Return the scores of a client's model in the last of the rounds in which it was measured."""
    found = [Record.from_json(line) for line in folder.lines() if line["kind"] == "score"]
    found = [
        record
        for record in found
        if (record.client, record.view, record.stage) == (client, view, "after")
        and record.round < rounds
    ]
    last = max((record.round for record in found), default=0)
    return [record for record in found if record.round == last]
