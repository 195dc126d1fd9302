"""Show what a check found of models, and its progress."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.status import Status
from rich.text import Text

from fedmosaic.model_check.report import CheckedModel
from fedmosaic.reporting.placement import placement_rows, shared_lines
from fedmosaic.reporting.terminal import Column, TextTable, print_parts
from fedmosaic.reporting.units import amount, count


def print_checks(found: Sequence[CheckedModel], console: Console | None = None) -> None:
    """Print a table for each model, what they share, and last all problems."""
    parts: list[TextTable | Text | str] = []
    for model in found:
        table = TextTable([Column("checked"), Column("found", wrap=True)], title=model.name)
        for label, text in check_rows(model):
            table.add(label, text)
        parts += [table, ""] if table.rows else []
    lines = _shared(found)
    parts += [*lines, ""] if lines else []
    problems = [(model.name, problem) for model in found for problem in model.problems]
    if not problems:
        parts.append(Text("no problems", "green"))
    lines = [text if name in text else f"{name}: {text}" for name, text in problems]
    # That models share nothing is a problem of each of them, and one line.
    parts += [Text(f"problem: {line}", "red") for line in dict.fromkeys(lines)]
    print_parts(parts, console)


def check_rows(model: CheckedModel) -> Iterator[tuple[str, str]]:
    """Yield label and text of each thing that was found of a model."""
    if model.facts is not None:
        yield "family", model.facts.architecture
        yield "parameters", f"{count(model.facts.parameters)} in {model.facts.layers} layers"
        yield "weights", ", ".join(f"{amount(s)} in {d}" for d, s in model.facts.memory.items())
    elif model.family is not None:
        yield "family", model.family
    if model.ids_equal is not None:
        yield "ids", _ids(model)
    if model.loss_difference is not None:
        yield "loss", f"within {model.loss_difference:.1e} of plain transformers"
    if model.image_tokens:
        size = " of 448 × 336 pixels" if model.items is None else ""
        yield "image tokens", f"{model.image_tokens} for a picture{size}"
    yield from _adapters(model)
    if model.signature is not None:
        reason = f": {model.signature.reason}" if model.signature.reason else ""
        yield "signature", f"{model.signature.method}{reason}"
    if model.step_loss is not None:
        yield "training step", f"loss {model.step_loss:.3f}"
    if model.adapter_memory is not None:
        yield "for a client", f"{amount(model.adapter_memory)} of adapters, gradients and moments"
    if model.export_difference is not None:
        yield "export", f"loads in plain PEFT, logits within {model.export_difference:.1e}"
    for note in model.notes:
        yield "note", note


def _ids(model: CheckedModel) -> str:
    return "equal to the model's own" if model.ids_equal else "differ from the model's own"


def _adapters(model: CheckedModel) -> Iterator[tuple[str, str]]:
    if model.coverage is None:
        return
    ((_, layers, share, roles, left_out),) = placement_rows(
        {"models": {model.name: model.coverage.to_json()}}
    )
    yield "adapted", f"{layers} layers, {share} of the parameters: {roles}"
    yield "not adapted", left_out


def _shared(found: Sequence[CheckedModel]) -> list[str]:
    """Return sentences on the sites that the models share."""
    sharing = {model.name: model for model in found if model.shared_sites}
    if not sharing:
        return []
    blocks: dict[str, list[str]] = {}
    for site in next(iter(sharing.values())).shared_sites or ():
        _, block, role = site.split(".", 2)
        blocks.setdefault(block, []).append(role)
    models = {name: {"own": list(model.unshared)} for name, model in sharing.items()}
    return shared_lines({"models": models, "shared": list(blocks.values())})


class CheckProgress:
    """Show on standard error which model is checked, and on a terminal what is done with it.

    Call it with the name of a model and what is done with it next.
    """

    def __init__(self, shown: bool = True, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.shown = shown
        self.status = Status("", console=self.console)
        self.bars = False  # whether those of transformers are hidden meanwhile

    def __enter__(self) -> CheckProgress:
        from transformers.utils import logging

        self.bars = not self.shown and logging.is_progress_bar_enabled()
        if self.bars:
            logging.disable_progress_bar()
        if self.shown and self.console.is_terminal:
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging

        self.status.stop()
        if self.bars:
            logging.enable_progress_bar()

    def __call__(self, name: str, step: str) -> None:
        """Show the next step."""
        text = Text(f"{name}: {step}")
        if self.console.is_terminal:
            self.status.update(text)
        elif self.shown:
            print_parts([text], self.console)
