"""Parse what is compared: algorithms, variants of them, seeds and values to choose from.

::

    sft                                         an algorithm
    fedprox:mu=0.1                              with an option of its own
    fedprox:train.lr=1e-3:mu=0.1                with a setting of the scenario (it has a dot), too
    permuted=fedmosaic:relevance.kind=permuted  under another label
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedmosaic.algorithms import algorithm_class
from fedmosaic.errors import ConfigError

# Sections that set what is measured. They must be the same for all runs of a comparison.
COMMON = ("clients", "unseen", "data", "evaluation")
RESERVED = ("sweep",)


@dataclass(frozen=True)
class Variant:
    """Describe one line of a comparison.

    Attributes:
        label: its name in tables.
        algorithm: name of the algorithm it runs.
        settings: its own settings, ``key=value`` with dotted keys of the scenario.
    """

    label: str
    algorithm: str
    settings: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Return the label as the name of a folder."""
        return slug(self.label)

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Parse ``[LABEL=]ALGORITHM[:KEY=VALUE…]``.

        Raises:
            ConfigError: another form, an unknown algorithm, or a setting that all runs must share.
        """
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
                    f"{self.label}: {setting} would measure one algorithm in another way than the "
                    "others; give it to all of them with --set"
                )


def parse_variants(texts: Iterable[str]) -> list[Variant]:
    """Parse comma-separated lists of variants.

    Raises:
        ConfigError: as :meth:`Variant.parse` and :func:`distinct`.
    """
    return distinct(
        [Variant.parse(part) for text in texts for part in _split(text, ",") if part.strip()]
    )


def distinct(variants: Sequence[Variant]) -> list[Variant]:
    """Return the variants, each of which has a folder name of its own.

    Raises:
        ConfigError: two variants have the same name, a name is not allowed, or there is none.
    """
    if not variants:
        raise ConfigError("nothing to compare: name some algorithms, such as sft,fedavg,fedmosaic")
    seen: dict[str, str] = {}
    for variant in variants:
        name = variant.folder
        if not name or name in RESERVED:
            raise ConfigError(f"{variant.label!r} cannot name a folder; choose another label")
        if name in seen:
            raise ConfigError(
                f"{seen[name]!r} and {variant.label!r} have the same name; give one a label: "
                "LABEL=ALGORITHM"
            )
        seen[name] = variant.label
    return list(variants)


def parse_seeds(text: str) -> list[int]:
    """Return ``0-4`` or ``0,2,5-7`` as sorted numbers. Raises ConfigError for another form."""
    seeds: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ConfigError(f"seeds {text!r}: write them as 0-4 or 0,1,2")
        seeds |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(seeds)


def parse_choices(texts: Iterable[str]) -> dict[str, list[str]]:
    """Return ``key=v1,v2`` as {key: [v1, v2]}.

    Raises:
        ConfigError: a key without values, a key named twice, or one that sets what is measured.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, values = (part.strip() for part in text.partition("="))
        choices = [value.strip() for value in _split(values, ",") if value.strip()]
        if not (key and equals and choices) or key in found:
            raise ConfigError(f"--sweep {text}: write it once for a key, as key=value1,value2")
        if key.partition(".")[0] in COMMON:
            raise ConfigError(
                f"--sweep {text}: {key} sets what is measured and cannot be chosen by measuring"
            )
        found[key] = choices
    return found


def slug(text: str) -> str:
    """Return the text as a file name: letters, digits, dots, underscores and dashes."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")


def _split(text: str, separator: str) -> list[str]:
    """Split a text at separators outside brackets and quotes."""
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
