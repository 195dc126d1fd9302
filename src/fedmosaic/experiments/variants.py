"""How one writes what is compared: algorithms, variants of them, seeds and values to choose from.

sft                                       an algorithm
fedmosaic:pull=0.2                        with an option of its own
fedmosaic:relevance.kind=uniform:pull=0.2 with a setting of the scenario (it has a dot) and an option
permuted=fedmosaic:relevance.kind=permuted  under a label of one's own
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedmosaic.algorithms import algorithm_class
from fedmosaic.errors import ConfigError

# Sections that say what is measured: they must be the same for everybody, so that a comparison compares.
COMMON = ("clients", "unseen", "data", "evaluation")
RESERVED = ("sweep",)


@dataclass(frozen=True)
class Variant:
    """One line of a comparison.

    Attributes:
        label: its name in tables. algorithm: which one it runs.
        settings: its own settings, ``key=value`` by the scenario's dotted paths.
    """

    label: str
    algorithm: str
    settings: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The label as the name of a folder."""
        return slug(self.label)

    @classmethod
    def parse(cls, text: str) -> Variant:
        """``[LABEL=]ALGORITHM[:KEY=VALUE…]``. Raises ConfigError for unknown algorithms and for settings that are common."""
        head, *settings = [part.strip() for part in _split(text, ":")]
        label, separator, algorithm = (part.strip() for part in head.rpartition("="))
        algorithm_class(algorithm)
        own = []
        for setting in settings:
            key, equals, value = (part.strip() for part in setting.partition("="))
            if not (key and equals):
                raise ConfigError(
                    f"--algorithms {text}: write its settings as {algorithm}:key=value"
                )
            own.append(f"{key if '.' in key else f'algorithms.{algorithm}.{key}'}={value}")
        if separator and not label:
            raise ConfigError(f"--algorithms {text}: the label before = is empty")
        return cls(label or ":".join([algorithm, *settings]), algorithm, tuple(own))

    def __post_init__(self) -> None:
        for setting in self.settings:
            if setting.partition(".")[0].partition("=")[0] in COMMON:
                raise ConfigError(
                    f"{self.label}: {setting} would measure one algorithm in another way than the others; "
                    "give it to all of them with --set"
                )


def parse_variants(texts: Iterable[str]) -> list[Variant]:
    """All variants of some comma-separated lists. Raises ConfigError for two of one name, or none at all."""
    return distinct(
        [Variant.parse(part) for text in texts for part in _split(text, ",") if part.strip()]
    )


def distinct(variants: Sequence[Variant]) -> list[Variant]:
    """The variants, if each has a folder name of its own (ConfigError otherwise)."""
    if not variants:
        raise ConfigError("nothing to compare: name some algorithms, such as sft,fedavg,fedmosaic")
    seen: dict[str, str] = {}
    for variant in variants:
        name = variant.folder
        if not name or name in RESERVED:
            raise ConfigError(f"{variant.label!r} cannot name a folder; choose another label")
        if name in seen:
            raise ConfigError(
                f"{seen[name]!r} and {variant.label!r} have the same name; give one a label: LABEL=ALGORITHM"
            )
        seen[name] = variant.label
    return list(variants)


def parse_seeds(text: str) -> list[int]:
    """``0-4`` or ``0,2,5-7`` as sorted numbers. Raises ConfigError."""
    seeds: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ConfigError(f"seeds {text!r}: write them as 0-4 or 0,1,2")
        seeds |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(seeds)


def parse_choices(texts: Iterable[str]) -> dict[str, list[str]]:
    """``key=v1,v2`` as {key: [v1, v2]}. Raises ConfigError for a key without values, one named twice, or a common one."""
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, values = (part.strip() for part in text.partition("="))
        choices = [value.strip() for value in _split(values, ",") if value.strip()]
        if not (key and equals and choices) or key in found:
            raise ConfigError(f"--sweep {text}: write it once for a key, as key=value1,value2")
        if key.partition(".")[0] in COMMON:
            raise ConfigError(
                f"--sweep {text}: {key} says what is measured and cannot be chosen by measuring"
            )
        found[key] = choices
    return found


def slug(text: str) -> str:
    """The text as a file name: letters, digits, dots, underscores and dashes."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")


def _split(text: str, separator: str) -> list[str]:
    """The parts of a text between separators that stand in no bracket and no quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
        elif letter == separator and not depth:
            parts.append("")
            continue
        parts[-1] += letter
    return parts
