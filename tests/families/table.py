"""Write the table of model families in ``docs/families.md``: what ``model check`` finds of each.

``python -m tests.families.table`` checks a tiny checkpoint of every family, which takes a minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fedmosaic.adapters.coverage import FROZEN
from fedmosaic.model_check import CheckedModel, CheckSettings, check_models
from tests.families import FAMILIES, build

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
HEAD = ("family", "parts", "pictures", "adapted", "left out", "signature", "check")


def check(folder: Path) -> CheckedModel:
    """Check the checkpoint of a family in ``folder``, named by the folder's own name."""
    (found,) = check_models([str(folder)], CheckSettings())
    found.problems = [text.replace(str(folder), folder.name) for text in found.problems]
    found.name = folder.name
    return found


def row(found: CheckedModel) -> str:
    """Return the row of a family."""
    return f"| {' | '.join((f'`{found.name}`', *_about(found), _verdict(found)))} |"


def _about(found: CheckedModel) -> tuple[str, ...]:
    if found.facts is None or found.coverage is None or found.signature is None:
        return ("",) * 5
    layers = found.facts.layers
    adapted = [
        role.removesuffix("_proj") + (f" ({count} of {layers})" if count < layers else "")
        for role, count in found.coverage.roles.items()
    ]
    left = [part.part for part in found.coverage.left_out if part.reason != FROZEN]
    pictures = {0: "no", None: "not taken"}.get(found.image_tokens, "yes")
    parts = (found.facts.architecture, pictures, ", ".join(adapted), ", ".join(left))
    return (*parts, found.signature.method)


def _verdict(found: CheckedModel) -> str:
    if found.problems:
        return "; ".join(found.problems)
    assert found.ids_equal and found.step and found.export and found.loss_difference is not None
    assert found.loss_difference < 1e-5
    return "right"


def reasons(checked: Sequence[CheckedModel]) -> Iterator[str]:
    """Yield a line for each reason why modules of a layer carry no adapters."""
    parts: dict[str, dict[str, None]] = {}
    for found in checked:
        for left in found.coverage.left_out if found.coverage else ():
            if left.reason != FROZEN:
                parts.setdefault(left.reason, {}).update(dict.fromkeys(left.part.split(", ")))
    for reason, names in parts.items():
        yield f"- {', '.join(names)}: {reason}."


def lines_of(checked: Sequence[CheckedModel]) -> list[str]:
    """Return the lines of the table and of the reasons below it."""
    table = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *map(row, checked)]
    return [*table, "", "Left out, and why:", "", *reasons(checked)]


def main() -> None:
    """Write the table between the marks of the page."""
    checked = []
    with TemporaryDirectory() as work:
        for name in FAMILIES:
            checked.append(check(build(name, Path(work) / name)))
            print(row(checked[-1]), flush=True)
    text = PAGE.read_text()
    start, end = (text.index(mark) for mark in ("<!-- table -->\n", "<!-- end of table -->"))
    table = "\n".join(lines_of(checked))
    PAGE.write_text(f"{text[:start]}<!-- table -->\n\n{table}\n\n{text[end:]}")


if __name__ == "__main__":
    main()
