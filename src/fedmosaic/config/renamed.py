"""List settings and algorithms that were renamed or removed, for errors and for old run folders.

``*`` in a key stands for the number of a list item. Keys of ``algorithms`` have the algorithm's
new name. Keys of ``align`` are those of ``fedmosaic align``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fedmosaic.errors import ConfigError

RENAMED = {
    "adapter.rank": "adapter.r",
    "adapter.blocks": "adapter.num_blocks",
    "adapter.targets": "adapter.target_modules",
    "adapter.shared_rank": "adapter.shared_r",
    "adapter.shared_targets": "adapter.shared_modules",
    "adapter.kappa": "adapter.b_scale",
    "clients.*.rank": "clients.*.r",
    "alignment.layers": "adapter.block_rule",
    "align.layers": "align.block_rule",
    "align.rank": "align.r",
    "align.blocks": "align.num_blocks",
    "alignment.refine.questions": "alignment.refine.pseudo_tasks",
    "alignment.refine.kept": "alignment.refine.in_memory",
    "algorithms.fedmosaic-interpolation.pull": "algorithms.fedmosaic-interpolation.interpolation",
    "algorithms.fedmosaic-interpolation.pull_shared": (
        "algorithms.fedmosaic-interpolation.interpolation_shared"
    ),
    "algorithms.fedmosaic-additive.foreign": (
        "algorithms.fedmosaic-additive.cross_architecture_weight"
    ),
}

REMOVED = {
    "alignment.rank": "an alignment has the adapter's rank (adapter.shared_r or adapter.r)",
    "alignment.blocks": "an alignment has the adapter's blocks (adapter.num_blocks)",
    "alignment.modules": (
        "an alignment has the adapter's modules (adapter.shared_modules or adapter.target_modules)"
    ),
    **{
        f"alignment.refine.{name}": "A and B are refined in closed form, without gradient descent"
        for name in ("steps", "batch", "tasks", "support", "lr", "own", "ridge")
    },
    "adapter.mix": "branches are always mixed as in the paper, (1 - g) local + g global (plain)",
    "algorithms.fedmosaic.pull": (
        "use the algorithm fedmosaic-interpolation with "
        "algorithms.fedmosaic-interpolation.interpolation"
    ),
    "algorithms.fedmosaic.pull_shared": (
        "use the algorithm fedmosaic-interpolation with "
        "algorithms.fedmosaic-interpolation.interpolation_shared"
    ),
    "algorithms.fedmosaic.foreign": (
        "use the algorithm fedmosaic-additive with "
        "algorithms.fedmosaic-additive.cross_architecture_weight"
    ),
    "algorithms.fedmosaic.turned": "use the algorithm fedmosaic-rotated",
    "algorithms.fedmosaic.share": (
        "use the algorithm fedmosaic-same-architecture (architecture) or fedmosaic-private (none)"
    ),
    "algorithms.fedmosaic.share_layers": "use the algorithm fedmosaic-partial (none)",
    "algorithms.fedmosaic-rotated.turned": "the algorithm needs no option",
    "algorithms.fedmosaic-same-architecture.share": "the algorithm needs no option",
    "algorithms.fedmosaic-private.share": "the algorithm needs no option",
    "algorithms.fedmosaic-partial.share_layers": "the algorithm needs no option",
}

REMOVED_VALUES = {
    "alignment.fit": {"descent": "A and B are fitted in closed form"},
    "relevance.noise": {
        "laplace": "with a clip of the L2 norm it guarantees nothing; use gaussian, or none"
    },
}

ALGORITHMS = {
    "fedsa_lora": "fedsa-lora",
    "ffa_lora": "ffa-lora",
    "fedmosaic-alone": "fedmosaic-no-communication",
    "fedmosaic-within": "fedmosaic-same-architecture",
    "fedmosaic-beside": "fedmosaic-additive",
    "fedmosaic-pull": "fedmosaic-interpolation",
    "fedmosaic-sharp": "fedmosaic-relative-temperature",
    "fedmosaic-turned": "fedmosaic-rotated",
}


def explain(key: str) -> str:
    """Return what became of a setting of that dotted key; empty if it is not a former one."""
    pattern = _pattern(key)
    if pattern in RENAMED:
        return f"{key!r} is now {_like(key, RENAMED[pattern])!r}"
    if pattern in REMOVED:
        return f"{key!r} is gone: {REMOVED[pattern]}"
    return ""


def explain_value(key: str, value: Any) -> str:
    """Return why a value of a setting is gone; empty if it is not a former one."""
    if isinstance(value, str) and (reason := REMOVED_VALUES.get(key, {}).get(value)):
        return f"{key} = {value!r} is gone: {reason}"
    return ""


def explain_algorithm(name: str) -> str:
    """Return the new name of an algorithm as a sentence; empty if it is not a former name."""
    return f"algorithm {name!r} is now {ALGORITHMS[name]!r}" if name in ALGORITHMS else ""


def former_settings(scenario: Mapping[str, Any]) -> list[str]:
    """Explain each key and value of a scenario's content that was renamed or removed."""
    content = _with_new_algorithms(scenario)
    found = [explained for key in _keys(content) if (explained := explain(key))]
    for key in REMOVED_VALUES:
        section, name = key.split(".")
        if isinstance(settings := content.get(section), dict):
            found += filter(None, [explain_value(key, settings.get(name))])
    return found


def rename(
    scenario: Mapping[str, Any], origin: str
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return a scenario's content in today's names of settings, and the former and new names.

    Only names change. Settings that are gone stay, so that they are refused.

    Raises:
        ConfigError: a setting stands there under both names; the message begins with ``origin``.
    """
    content, found = copy.deepcopy(dict(scenario)), []
    for key in list(_keys(content)):
        if (pattern := _pattern(key)) not in RENAMED:
            continue
        new = _like(key, RENAMED[pattern])
        *path, last = new.split(".")
        section = content
        for part in path:
            section = _child(section, part)
            if not isinstance(section, dict | list):
                raise ConfigError(f"{origin}: {explain(key)}, but {part!r} is not a section")
        if last in section:
            raise ConfigError(f"{origin}: {explain(key)}, and both are set; leave out {key!r}")
        _put(content, new.split("."), _take(content, key.split(".")))
        found.append((key, new))
    return content, found


def translate_scenario(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """Return a former scenario's content in today's keys; removed keys and values are left out."""
    content = _with_new_algorithms(scenario)
    for key in list(_keys(content)):
        pattern = _pattern(key)
        if pattern in RENAMED:
            _put(content, _like(key, RENAMED[pattern]).split("."), _take(content, key.split(".")))
        elif pattern in REMOVED:
            _take(content, key.split("."))
    for key in REMOVED_VALUES:
        section, name = key.split(".")
        if explain_value(key, content.get(section, {}).get(name)):
            del content[section][name]
    return content


def translate_algorithm(name: str) -> str:
    """Return today's name of an algorithm."""
    return ALGORITHMS.get(name, name)


def _with_new_algorithms(scenario: Mapping[str, Any]) -> dict[str, Any]:
    content = copy.deepcopy(dict(scenario))
    if isinstance(options := content.get("algorithms"), dict):
        content["algorithms"] = {translate_algorithm(str(k)): v for k, v in options.items()}
    return content


def _keys(value: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of all values inside mappings and lists of mappings."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for name, inner in items:
        key = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, dict):
            yield key
        yield from _keys(inner, key)


def _pattern(key: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", key)


def _like(key: str, pattern: str) -> str:
    """Return the pattern with the numbers of a key in place of its stars."""
    numbers = iter(re.findall(r"(?<=\.)\d+(?=\.)", key))
    return re.sub(r"\*", lambda _: next(numbers, "*"), pattern)


def _child(node: Any, part: str) -> Any:
    return node[int(part)] if isinstance(node, list) else node.setdefault(part, {})


def _take(content: Any, path: list[str]) -> Any:
    for part in path[:-1]:
        content = _child(content, part)
    return content.pop(path[-1])


def _put(content: Any, path: list[str], value: Any) -> None:
    for part in path[:-1]:
        content = _child(content, part)
    content[path[-1]] = value
