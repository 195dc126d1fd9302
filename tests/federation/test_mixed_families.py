"""Test every algorithm on clients of different families, and what a user does with such a run.

The default suite takes Phi-3 beside Llama; ``FEDMOSAIC_ALL_FAMILIES=1`` takes more pairs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from short_run import StopAt, files, numbers, start

import fedmosaic
from fedmosaic.algorithms.presets import PRESETS
from fedmosaic.algorithms.registry import TABLE, VARIANTS, algorithm_class
from fedmosaic.cli import main
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import FedMosaicError, Interrupted, ModelError
from fedmosaic.federation.placement import settle_sites
from fedmosaic.federation.pools import ModelPool
from fedmosaic.federation.runtime import Runtime
from tests.families import VISION, build
from tests.families.examples import picture
from tests.families.sample import ALL

PAIRS = [("phi3", "llama")]
if ALL:
    PAIRS += [("gpt2", "llama"), ("mixtral", "qwen2"), ("gemma4_text", "opt")]
    PAIRS += [("gemma3n_text", "jamba"), ("qwen2_vl", "internvl"), ("smolvlm", "gemma3")]
ANSWERS = ("red", "blue", "green")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("families")
    return cache(lambda name: build(name, root / name))


@pytest.fixture(scope="module")
def pool() -> ModelPool:
    return ModelPool(Scenario.model_fields["models"].get_default(call_default_factory=True))


def item(root: Path, number: int, images: bool) -> dict[str, Any]:
    question = f"What colour has number {number}?"
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": ANSWERS[number % 3]}]
    if not images:
        return {"id": str(number), "conversations": turns}
    picture(number, 40 + number, 60).load().save(root / f"{number}.png")
    turns[0]["value"] = f"<image>\n{question}"
    return {"id": str(number), "conversations": turns, "image": str(root / f"{number}.png")}


@pytest.fixture
def write(folder_of: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Write a scenario of one client a family, and a client on the second family's other spelling.

    All read the public examples that the modality of the families allows.
    """

    def made(*families: str, **changes: Any) -> Path:
        images = all(name in VISION for name in families)
        for number in range(3):
            items = [item(tmp_path, 10 * number + k, images) for k in range(6)]
            (tmp_path / f"{number}.json").write_text(json.dumps(items))
        models = [str(folder_of(name)) for name in families]
        models.append(f"{models[1]}/../{families[1]}/")
        content = {
            "rounds": 2,  # what is sent in one round is received in the next
            "clients": [
                {"name": name, "model": model, "tasks": [f"{number}.json"]}
                for number, (name, model) in enumerate(zip("abc", models, strict=True))
            ],
            "unseen": ["0.json"],
            "data": {
                "root": str(tmp_path),
                "test": 2,
                "public": "synthetic" if images else "synthetic/text",
                "public_size": 4,
            },
            "adapter": {"r": 4, "alpha": 8, "num_blocks": 1},
            "train": {"steps": 1, "batch_size": 2},
            "evaluation": {"every": 0, "others": False},
            "algorithms": {"perada": {"server_steps": 2}},
            **changes,
        }
        path = tmp_path / "mixed.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return made


def placed(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "placement.json").read_text())
    return found


@pytest.mark.parametrize("algorithm", TABLE)
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_every_algorithm_trains_and_says_what_is_shared(
    write: Callable[..., Path],
    pool: ModelPool,
    pair: tuple[str, str],
    algorithm: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("fedmosaic.federation.runtime.ModelPool", lambda *_: pool)
    out = tmp_path / "run"
    assert main(["run", str(write(*pair)), "--algorithm", algorithm, "--out", str(out)]) == 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "client"]
    assert len(losses) == 6 and all(map(math.isfinite, losses))
    assert not any(line["refused"] for line in lines if line["kind"] == "round")
    found, shown = placed(out), " ".join(capsys.readouterr().out.split())
    assert [model["clients"] for model in found["models"].values()] == [["a"], ["b", "c"]]
    kind = algorithm_class(algorithm)
    assert bool(found["shared"]) == kind.shares_subspaces
    if kind.shares_subspaces:
        assert f"(Co-LoRA): {', '.join(found['shared'][0])} at the end of" in shown
    else:
        assert found["exchange"] and f"shared: {found['exchange']}" in shown
        assert "clients by model: a on " in shown


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_all_algorithms_with_co_lora_share_the_same_sites(
    write: Callable[..., Path], pool: ModelPool, pair: tuple[str, str]
) -> None:
    scenario = load_scenario(write(*pair))
    found = {}
    for name in [*TABLE, *VARIANTS, *PRESETS]:
        if algorithm_class(name).shares_subspaces and name != "fedmosaic-lora":
            runtime = Runtime(RunSettings(name="x", algorithm=name, scenario=scenario), pool)
            found[name] = settle_sites(runtime).scenario.adapter.shared_modules
    assert len(found) > 10 and len(set(found.values())) == 1
    if pair == ("phi3", "llama"):
        assert found["fedmosaic"] == ("o_proj", "down_proj")


def test_models_without_a_common_site_are_refused_before_anything_trains(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    adapter = {"num_blocks": 1, "target_modules": ["q_proj", "qkv_proj"]}
    path = write("phi3", "llama", adapter=adapter)
    message = r"phi3' and '\S*llama' have no adapted module in common .*adapter\.target_modules"
    for algorithm in ("fedmosaic", "fedmosaic-same-architecture", "fedmosaic-no-communication"):
        with pytest.raises(ModelError, match=message):
            start(path, tmp_path / "run", algorithm=algorithm)
    assert not (tmp_path / "run").exists()
    assert start(path, tmp_path / "run", algorithm="fedavg").summary


@pytest.mark.parametrize("algorithm", ["feddistill", "fedmkt", "takfl", "perada"])
def test_public_examples_that_a_model_cannot_read_are_refused_at_the_start(
    write: Callable[..., Path], tmp_path: Path, algorithm: str
) -> None:
    path = write("phi3", "llama")
    pictures = ["data.public=synthetic"]
    with pytest.raises(FedMosaicError, match=r"data\.public: .* takes text only"):
        start(path, tmp_path / "run", algorithm=algorithm, overrides=pictures)
    assert not (tmp_path / "run").exists()


def test_tokens_that_cannot_be_matched_are_refused_where_predictions_are_mapped(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write("paligemma", "llava_llama")
    for algorithm in ("feddistill", "fedmkt", "takfl"):
        with pytest.raises(ModelError, match=r"clients\.0\.model: \S*paligemma has no chat temp"):
            start(path, tmp_path / "run", algorithm=algorithm)


def test_a_mixed_run_resumes_bit_by_bit_and_workers_give_the_same(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write("phi3", "llama", alignment={"method": "gradients", "probe": "likelihood"})
    options = {"algorithm": "fedmosaic"}
    whole = start(path, tmp_path / "whole", **options).folder
    with pytest.raises(Interrupted):
        start(path, tmp_path / "stopped", callbacks=[StopAt(1, "b")], **options)
    resumed = fedmosaic.resume(tmp_path / "stopped", progress=False).folder
    spread = start(path, tmp_path / "spread", **options | {"workers": 2}).folder
    assert files(whole)
    for other in (resumed, spread):
        assert numbers(other) == numbers(whole) and files(other) == files(whole)


def test_commands_on_a_mixed_run(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write("phi3", "llama"), tmp_path / "run"
    run = str(start(path, out, algorithm="fedmosaic").folder)
    names = list(placed(out)["models"])
    assert main(["show", run]) == 0
    assert all(name in capsys.readouterr().out for name in names[:1])
    assert main(["adapt", run, "--every", "1", "--points", "1", "--received", "-q"]) == 0
    assert "what it would receive next" in capsys.readouterr().out
    for client, model in (("a", names[0]), ("c", names[1])):
        to = str(tmp_path / f"lora-{client}")
        assert main(["export", run, "--client", client, "--to", "lora", "--out", to]) == 0
        base = json.loads((tmp_path / f"lora-{client}/adapter_config.json").read_text())
        assert Path(base["base_model_name_or_path"]).resolve() == Path(model).resolve()
    page = tmp_path / "page.html"
    assert main(["report", run, "--out", str(page)]) == 0
    text = page.read_text()
    assert all(f'<th scope="row">{name}</th>' in text for name in names)
    assert "shared between all models (Co-LoRA): o_proj, down_proj at the end of" in text
