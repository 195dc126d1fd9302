"""Write the model card of an exported adapter: what it is, its scores, and how to load it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmosaic.adapters.exported import ExportedLora
from fedmosaic.config import ClientSpec, RunSettings
from fedmosaic.evaluation import Record
from fedmosaic.models.merged import base_of
from fedmosaic.models.names import ADAPTER_CONFIG, PREFIX, Source, locate
from fedmosaic.models.packaged import PREFIX as PACKAGED


@dataclass(frozen=True)
class CardFacts:
    """Hold what a card says about the run and the base model.

    Attributes:
        settings: the run.
        client: the client whose adapter it is.
        rounds: number of finished rounds.
        records: the client's scores in the last round that measured it.
        vision: whether the base model takes images.
        dtype: data type of the base model in the run, such as ``float32``.
    """

    settings: RunSettings
    client: ClientSpec
    rounds: int
    records: Sequence[Record]
    vision: bool
    dtype: str


@dataclass(frozen=True)
class Base:
    """Say which model an adapter belongs to.

    Attributes:
        source: the model itself.
        adapter: folder of a LoRA that is merged into it first; None: the model as it is.
        published: whether it has an id on the Hugging Face Hub.
    """

    source: Source
    adapter: Path | None
    published: bool

    @property
    def name(self) -> str:
        """Return what ``adapter_config.json`` names as the base model.

        This is the merged LoRA's folder, if there is one: on its base model alone, the exported
        adapter would be wrong.
        """
        return self.source.place if self.adapter is None else str(self.adapter.resolve())

    @classmethod
    def of(cls, name: str) -> Base:
        """Find the base model of that name in a scenario."""
        source, folder = locate(name), locate(name).folder
        if folder is not None and not source.gguf and (folder / ADAPTER_CONFIG).is_file():
            return cls(locate(base_of(name, folder)), folder, False)
        return cls(source, None, folder is None and not name.startswith((PREFIX, PACKAGED)))


def model_card(facts: CardFacts, exported: ExportedLora, name: str) -> str:
    """Return the text of ``README.md``.

    Args:
        facts: what to say about the run.
        exported: the exported adapter.
        name: of the folder, which the code in the card loads.
    """
    settings, client = facts.settings, facts.client
    base = Base.of(client.model)
    title = f" ({settings.scenario.title})" if settings.scenario.title else ""
    return "\n\n".join(
        [
            _metadata(facts, base),
            f"# LoRA of client {client.name}",
            f"A LoRA adapter for `{client.model}`, trained with "
            f"[fedmosaic](https://pypi.org/project/fedmosaic/) in a federation: scenario "
            f"`{settings.name}`{title}, algorithm `{settings.algorithm}`, seed {settings.seed}, "
            f"after {facts.rounds} of {settings.scenario.rounds} rounds. It is what the client "
            "would use; adapters that the algorithm mixes are one LoRA here.",
            "## Scores",
            _scores(facts),
            "## What it covers",
            _coverage(exported),
            "## Load it",
            _loading(facts, base, name),
            "## Licence",
            _licence(base),
        ]
    )


def _metadata(facts: CardFacts, base: Base) -> str:
    task = "image-text-to-text" if facts.vision else "text-generation"
    lines = [f"base_model: {base.source.place}"] if base.published else []
    lines += ["library_name: peft", f"pipeline_tag: {task}", "tags:"]
    lines += [f"- {tag}" for tag in ("lora", "federated-learning", "fedmosaic")]
    if not base.published:
        lines.insert(0, "# base_model: add the Hugging Face id of the base model, if it has one")
    return "\n".join(["---", *lines, "---"])


def _scores(facts: CardFacts) -> str:
    if not facts.records:
        return "The run measured no score of this adapter."
    own = {task.name for task in facts.client.tasks}
    rounds = sorted({record.round + 1 for record in facts.records})
    lines = ["| task | | metric | score | test items |", "|---|---|---|---|---|"]
    lines += [
        f"| {r.task} | {'own' if r.task in own else 'not trained on'} | {r.metric} "
        f"| {r.value:.3f} | {r.n} |"
        for r in sorted(facts.records, key=lambda r: (r.task not in own, r.task))
    ]
    later = "" if rounds[-1] == facts.rounds else ", before the last training"
    after = f"Measured in the run after round {rounds[-1]}{later}."
    return "\n".join([after, "", *lines])


def _coverage(exported: ExportedLora) -> str:
    ranks = sorted(set(exported.ranks.values()))
    bias = (
        "It has a bias on the adapted modules (`lora_bias`), which PEFT adds. PEFT cannot merge it "
        "where the base model has none, and vLLM and llama.cpp take no bias."
        if exported.bias
        else "It has no bias."
    )
    alpha = exported.config.get("lora_alpha")
    scale = f"alpha {alpha:g}" if len(ranks) == 1 else "alpha equal to the rank"
    return (
        f"{len(exported.ranks)} linear modules of the language model: "
        f"{', '.join(f'`{name}`' for name in exported.modules)}. "
        f"Rank {' and '.join(map(str, ranks))}, {scale}. {bias}"
    )


def _loading(facts: CardFacts, base: Base, name: str) -> str:
    kind = "AutoModelForImageTextToText" if facts.vision else "AutoModelForCausalLM"
    reader = "AutoProcessor" if facts.vision else "AutoTokenizer"
    extra = f", revision={json.dumps(base.source.revision)}" if base.source.revision else ""
    extra += f", gguf_file={json.dumps(base.source.gguf)}" if base.source.gguf else ""
    extra += ", trust_remote_code=True" if facts.settings.scenario.models.trust_remote_code else ""
    lines = [
        "from peft import PeftModel",
        f"from transformers import {', '.join(sorted((kind, reader)))}",
        "",
        f"base = {json.dumps(base.source.place)}",
        f'model = {kind}.from_pretrained(base, dtype="{facts.dtype}"{extra})',
    ]
    if base.adapter is not None:  # the run's base model was this model with a LoRA merged into it
        folder = json.dumps(str(base.adapter.resolve()))
        lines.append(f"model = PeftModel.from_pretrained(model, {folder}).merge_and_unload()")
    lines += [
        f"model = PeftModel.from_pretrained(model, {json.dumps(name)})  # this folder",
        f"{'processor' if facts.vision else 'tokenizer'} = {reader}.from_pretrained(base{extra})",
    ]
    quantised = facts.settings.scenario.models.quantise
    note = f"\n\nThe run loaded the base model in {quantised}." if quantised != "none" else ""
    code = "\n".join(lines)
    packages = "`transformers` and `peft` only"
    if facts.vision:
        packages += (
            "; the processors of some models (Qwen-VL, InternVL, SmolVLM) need `torchvision`"
        )
    return f"It needs {packages}.\n\n```python\n{code}\n```{note}"


def _licence(base: Base) -> str:
    owner = f"`{base.source.place}`" if base.published else "the base model"
    return (
        f"The licences of {owner} and of the training data apply. Before you publish the adapter, "
        "add `license:` to the block at the top of this file."
    )
