"""Write the tables of model families in ``docs/families.md``: what ``model check`` finds of each.

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
HEAD = ("family", "parts", "adapted", "left out", "signature")


def check(folder: Path) -> CheckedModel:
    """Check the checkpoint of a family in ``folder``, named by the folder's own name."""
    (found,) = check_models([str(folder)], CheckSettings())
    found.problems = [text.replace(str(folder), folder.name) for text in found.problems]
    found.name = folder.name
    return found


def row(found: CheckedModel) -> str:
    """Return the row of a family; of one that is refused, its name and the message."""
    cells = ["; ".join(found.problems)] if found.problems else _about(found)
    return _line(f"`{found.name}`", *cells)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _about(found: CheckedModel) -> list[str]:
    """Return the cells of a family for which the check finds no problem."""
    assert found.ids_equal and found.step and found.export
    assert found.loss_difference is not None and found.loss_difference < 1e-5
    assert found.facts and found.coverage and found.signature
    layers = found.facts.layers
    adapted = [
        role.removesuffix("_proj") + (f" ({count} of {layers})" if count < layers else "")
        for role, count in found.coverage.roles.items()
    ]
    left = [part.part for part in found.coverage.left_out if part.reason != FROZEN]
    return [
        found.facts.architecture,
        ", ".join(adapted),
        ", ".join(left),
        found.signature.method,
    ]


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
    """Return the lines of the tables, and of the reasons below them."""
    right = [found for found in checked if not found.problems]
    seeing = [found for found in right if found.image_tokens]
    reading = [found for found in right if not found.image_tokens]
    return [
        *("## Vision-language", "", *_table(HEAD, seeing)),
        *("## Text only", "", *_table(HEAD, reading)),
        *("## Refused", "", *_table(("family", "message"), [f for f in checked if f.problems])),
        *("## Left out, and why", "", *reasons(checked)),
    ]


def _table(head: Sequence[str], rows: Sequence[CheckedModel]) -> list[str]:
    return [_line(*head), "|---" * len(head) + "|", *map(row, rows), ""]


def main() -> None:
    """Write the tables between the marks of the page."""
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
