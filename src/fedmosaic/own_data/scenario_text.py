"""Write a scenario for a division of items, with a comment at every setting to look at first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmosaic.alignment.closed_form.probes import FEWEST_WORDS
from fedmosaic.config.yaml_text import parse_yaml
from fedmosaic.data.registry import TASK_SOURCES
from fedmosaic.errors import ConfigError
from fedmosaic.models.outline import ModelOutline, is_path

FEWEST_STEPS = 20
MOST_STEPS = 100
PUBLIC_SIZE = 256


@dataclass(frozen=True)
class ScenarioFacts:
    """Hold what a scenario depends on.

    Attributes:
        command: the command that makes it.
        folder: its folder, as the user wrote it.
        title: one line that names it.
        clients: names of the clients.
        models: outline of each client's model.
        items: mean number of training items of a client.
        has_pictures: whether items have pictures.
        is_mixed: whether some test items have options and others have none.
        public: number of public items in a file of its own; 0: there is no such file.
        answer_words: number of different first words of the public items' answers.
    """

    command: str
    folder: str
    title: str
    clients: Sequence[str]
    models: Sequence[ModelOutline]
    items: int
    has_pictures: bool
    is_mixed: bool
    public: int
    answer_words: int = 0


@dataclass(frozen=True)
class _Start:
    """Hold settings to start from with models of some size."""

    batch_size: int
    lr: str
    lr_shared: str
    why: str


# Largest number of parameters (0: not known, and any) -> where to start.
_STARTS = {
    20_000_000: _Start(8, "2.0e-3", "5.0e-3", "small models need about this much"),
    1_000_000_000: _Start(4, "5.0e-4", "1.0e-3", "for models below 1B parameters"),
    0: _Start(
        4, "1.0e-4", "2.0e-4", "for models of 1B and more; the paper has 2.0e-5 in 20 rounds"
    ),
}


def scenario_text(facts: ScenarioFacts) -> str:
    """Return the text of a scenario."""
    return "\n".join(
        [
            *_head(facts),
            "",
            "# Each round every client trains, then all of them exchange adapters. Where scores",
            "# still rise in the last round, take more.",
            "rounds: 5",
            "",
            *_clients(facts),
            "",
            *_data(facts),
            "",
            *_adapter(facts),
            "",
            *_train(facts),
            "",
            "evaluation:",
            "  every: 1      # rounds between evaluations; 0: only after the last round",
            "  others: true  # also measure each client on the other clients' test items;"
            " false is faster",
            "  # items: 50   # at most so many test items of a task during the run; faster",
            "",
        ]
    )


def _head(facts: ScenarioFacts) -> list[str]:
    return [
        "# Made by:",
        f"#   {facts.command}",
        "# The same command on the same data makes the same division.",
        "#",
        "# A client's items are in data/<client>/train.jsonl and test.jsonl, one a line, to look at"
        " and",
        "# to edit. division.csv says where each item comes from. Pictures are not copied: items"
        " name",
        "# them by absolute path.",
        "#",
        f"# Check: fedmosaic data check {facts.folder}/scenario.yaml",
        f"# Run:   fedmosaic run {facts.folder}/scenario.yaml",
        "# All settings: docs/settings.md. --set train.steps=10 changes one for a single run.",
        f"title: {_scalar(facts.title)}",
    ]


def _clients(facts: ScenarioFacts) -> list[str]:
    lines = ["# Clients may have different models. A task is a folder below data.root."]
    if facts.is_mixed:
        lines += [
            "# Some test items have options and others have none, so all of them are open: answers",
            "# are generated and compared as text.",
        ]
    lines.append("clients:")
    for name, model in zip(facts.clients, facts.models, strict=True):
        task = _scalar(f"./{name}" if name in TASK_SOURCES else name)
        lines += [
            f"  - name: {_scalar(name)}",
            f"    model: {_scalar(_model(model.name))}",
            f"    tasks: [{{name: {task}, kind: open}}]"
            if facts.is_mixed
            else f"    tasks: [{task}]",
        ]
    return lines


def _data(facts: ScenarioFacts) -> list[str]:
    if facts.public:
        why = ["share of the items held out for all clients: every client sees them"]
        public, size = "public.jsonl", min(facts.public, PUBLIC_SIZE)
    elif not _differ(facts):
        why = [
            "the clients have one model, so nothing has to be aligned. PerAda, TAKFL, FedDistill",
            "and FedMKT need public examples: synthetic, synthetic/text, or a file of yours",
        ]
        public, size = "none", 0
    else:
        public, size = _public_name(facts), PUBLIC_SIZE
        kind = "pictures with questions" if facts.has_pictures else "texts"
        why = [f"{kind} that come with fedmosaic and hold nothing of yours"]
    lines = [
        "data:",
        "  root: data  # folder of the clients' items, beside this file",
        *(
            f"  # {'Public examples: ' if not index else ''}{line}"
            for index, line in enumerate(why)
        ),
    ]
    lines[-1] += "."
    lines.append(f"  public: {public}")
    return [*lines, f"  public_size: {size}  # number of public examples"] if size else lines


def _public_name(facts: ScenarioFacts) -> str:
    if not facts.has_pictures:
        return "synthetic/text"
    are_miniature = all(model.name.startswith("miniature/") for model in facts.models)
    return "miniature/public" if are_miniature else "synthetic"


def _adapter(facts: ScenarioFacts) -> list[str]:
    layers = min(model.layers or 32 for model in facts.models)
    blocks = min(4 if layers >= 16 else 2, layers)
    return [
        "adapter:",
        "  r: 16          # rank: larger adapters learn more, cost more and travel as more bytes",
        "  alpha: 32      # updates are scaled by alpha / r",
        f"  num_blocks: {blocks}  # the last layer of each block is shared between all models",
        "",
        *_alignment(facts),
    ]


def _alignment(facts: ScenarioFacts) -> list[str]:
    if not _differ(facts):
        return [
            "# The clients have one model, so that their adapters fit each other as they are.",
            "alignment: {method: none}",
        ]
    why = [
        "# The clients' models differ. Alignment on the public examples gives the layers that they",
        "# share a common meaning; none: they have none.",
    ]
    if not facts.public or facts.answer_words >= FEWEST_WORDS:
        return [*why, "alignment: {method: gradients}"]
    return [
        *why,
        "# The public answers begin with few different words, so it uses their likelihood.",
        "alignment: {method: gradients, probe: likelihood}",
    ]


def _train(facts: ScenarioFacts) -> list[str]:
    sizes = [model.parameters for model in facts.models]
    largest = max(sizes) if all(sizes) else 0
    start = next(
        found for most, found in _STARTS.items() if not most or (largest and largest < most)
    )
    steps = min(max(-(-facts.items // start.batch_size), FEWEST_STEPS), MOST_STEPS)
    passes = steps * start.batch_size / max(facts.items, 1)
    return [
        "train:",
        f"  steps: {steps}  # local steps in a round: here about {passes:.2g} times a client's"
        " items",
        f"  batch_size: {start.batch_size}  # items in a step; less needs less memory",
        f"  lr: {start.lr}  # learning rate, {start.why}",
        f"  lr_shared: {start.lr_shared}  # that of the shared layers, about twice lr",
    ]


def _differ(facts: ScenarioFacts) -> bool:
    return len({model.name for model in facts.models}) > 1


def _model(name: str) -> str:
    """Return a model's name as it holds from any folder; a dollar sign is doubled."""
    found = str(Path(name).expanduser().absolute()) if is_path(name) else name
    return found.replace("$", "$$")


def _scalar(text: str) -> str:
    """Return a text as YAML, in quotes where it would be read as something else."""
    try:
        plain = parse_yaml(f"[{text}]", "") == [text] and parse_yaml(f"a: {text}", "") == {
            "a": text
        }
    except ConfigError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)
