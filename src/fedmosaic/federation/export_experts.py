"""Export a client with its experts: a PEFT adapter of each, and what chooses between them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor

from fedmosaic.adapters.export import Layout, export_to_folder
from fedmosaic.algorithms.common.expert_bank import ExpertBank
from fedmosaic.algorithms.common.experts import EXPERT, OWN, WithExperts
from fedmosaic.errors import ConfigError, ModelError
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.experts_card import experts_card
from fedmosaic.federation.export import require_new
from fedmosaic.federation.model_card import Base
from fedmosaic.federation.prompts import prompt_features
from fedmosaic.federation.stored_client import StoredClient
from fedmosaic.files import atomic_folder
from fedmosaic.relevance.prompt_features import MOST_MEDIANS
from fedmosaic.relevance.remembered_prompts import remembered
from fedmosaic.relevance.routes import Router

FORMAT = 2
"""Version of ``router.json``."""


def export_experts(stored: StoredClient, out: Path, layout: Layout = "peft") -> Path:
    """Write the models that a client chooses from, and the choice.

    The folder holds one PEFT adapter for each model, ``router.safetensors`` with the tensors that
    decide, ``router.json`` with what they mean, and ``README.md``. It appears complete or not at
    all. An adapter is the view of that model: of an expert its local adapter, with the gate and the
    global branch of the client.

    Args:
        stored: the client.
        out: the folder to make.
        layout: as of :func:`fedmosaic.federation.export.export_client`.

    Raises:
        ConfigError: ``out`` exists, or the algorithm has no experts.
        DataError: the client's training data is missing or changed.
        ModelError: a model equals no LoRA, or plain PEFT cannot load it.
    """
    require_new(out)
    local, algorithm = stored.local, stored.local.algorithm
    if not isinstance(algorithm, WithExperts):
        raise ConfigError(
            f"{algorithm.name} has no experts: leave --experts out, and the client's model is "
            "exported"
        )
    stored.require_same_prompts()
    client, settings = local.spec, local.runtime.settings
    base, placed = Base.of(client.model), dict(_placed(local, algorithm))
    with local.turn(trains=False) as context, atomic_folder(out) as work:
        with remembered(prompt_features(local.runtime), context.arrived()):
            router = algorithm.router(context, algorithm.used_view())
        for view, place in placed.items():
            with algorithm.view(context, view) as model:
                _write_adapter(model, work / place, layout, base, settings.algorithm)
        tensors, facts = _router(stored, algorithm, router, placed)
        save_file(tensors, str(work / "router.safetensors"))
        (work / "router.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        card = experts_card(settings, client, stored.rounds, facts, len(router.own.own))
        (work / "README.md").write_text(card, encoding="utf-8")
    return out


def _placed(client: LocalClient, algorithm: WithExperts) -> Iterator[tuple[str, str]]:
    """Yield the views that can answer, each with its folder."""
    yield OWN, OWN
    if algorithm.nobody != OWN:
        yield algorithm.nobody, algorithm.nobody
    for name in ExpertBank(client.state).names:
        yield EXPERT + name, f"experts/{name}"


def _write_adapter(model: Any, folder: Path, layout: Layout, base: Base, algorithm: str) -> None:
    if not isinstance(model, PeftModel):
        raise ModelError(
            f"{algorithm} mixes its adapters anew for every input, which no single LoRA does"
        )
    names = tuple(model.active_adapters)
    export_to_folder(model, folder, names, layout=layout, base_model=base.name)


def _router(
    stored: StoredClient, algorithm: WithExperts, router: Router, placed: dict[str, str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the facts from which the choice can be computed."""
    context, settings = stored.local.context, algorithm.scenario.routing
    scale, features = router.own.scale, prompt_features(stored.local.runtime)
    tensors = {"mean": scale.mean, "std": scale.std, "own": router.own.own}
    tensors |= {f"prototypes/{name}": rows for name, rows in router.experts.items()}
    facts = {
        "format": FORMAT,
        "client": stored.local.name,
        "features": {
            "model": Base.of(algorithm.scenario.relevance.model).name,
            "dtype": str(features.backbone.dtype).removeprefix("torch."),
            "layer": features.layer,
            "layers": len(features.backbone.structure.layers),
            "normed": features.normed,
            "states": features.features,
            "most_medians": MOST_MEDIANS,
            "size": features.size,
        },
        "quantile": settings.quantile,
        "threshold": router.own.threshold,
        "radius": router.radius if math.isfinite(router.radius) else None,
        "experts": list(router.experts),
        "otherwise": algorithm.nobody,
        "models": {
            view: {
                "folder": place,
                "by_difference": algorithm.compares_with_base(context, view),
            }
            for view, place in placed.items()
        },
    }
    return {name: rows.double().contiguous() for name, rows in tensors.items()}, facts
