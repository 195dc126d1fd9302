"""Test alignments between families: shared sites by role, recorded as plain Transformers runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedmosaic.adapters.placement import AdapterSite, Placement
from fedmosaic.alignment import align
from fedmosaic.alignment.closed_form.observe import observe
from fedmosaic.alignment.correspondence.positions import number_places
from fedmosaic.alignment.hooks import linear_at, site_widths
from fedmosaic.alignment.refinement.pseudo_tasks import CONTRASTS, PseudoTask
from fedmosaic.alignment.refinement.traces import image_places, record_traces
from fedmosaic.alignment.standalone import StandaloneSettings
from fedmosaic.data import Example, public_examples
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.token_origins import TokenKind
from tests.families import LANGUAGE, VISION
from tests.families.conftest import Load
from tests.families.examples import EXAMPLES
from tests.families.sample import ALL, sample

REFUSED = {"mllama", "idefics2", "paligemma"}
SEEING = [name for name in VISION if name not in REFUSED]
PAIRS = [
    *(("phi3", "llama"), ("gpt2", "qwen2_moe"), ("gemma4_text", "opt")),
    *(("qwen2_vl", "internvl"), ("llava_llama", "llava_next")),
]
IN_PROJ = {"mamba", "mamba2", "falcon_mamba"}  # have no module that another family has
if ALL:
    PAIRS += [(name, "mamba" if name in IN_PROJ else "llama") for name in LANGUAGE]
    PAIRS += [(name, "llava_llama") for name in SEEING]
# In its tiny vocabulary all answers begin with one token, so that nothing can be learned from them.
ONE_START = {"xglm"}
REFINE = {"pseudo_tasks": 4, "size": 6, "in_memory": 3}
TEXTS, PICTURES = public_examples("synthetic/text", 10), public_examples("synthetic", 10)
LOOSE = {"qwen3_next": 1e-3, "qwen3_5": 1e-3}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report on few held-out pseudo-tasks."""
    monkeypatch.setattr("fedmosaic.alignment.refinement.pseudo_tasks.HELD_OUT_TASKS", 2)
    monkeypatch.setattr("fedmosaic.alignment.refinement.pseudo_tasks.HELD_OUT_SIZE", 12)


def last_sites(model: Backbone) -> list[AdapterSite]:
    last = model.num_layers - 1
    return [AdapterSite(last, one.role, 0) for one in model.roles[last] if one.by_default]


@pytest.mark.parametrize(
    "name",
    [
        *sample(
            [name for name in LANGUAGE if name not in ONE_START],
            *("phi3", "gpt2", "opt", "qwen2_moe", "gemma4_text", "jamba"),
        ),
        *sample(SEEING, "qwen2_vl", "gemma3"),
    ],
)
def test_sites_are_recorded_as_plain_transformers_runs_them(load: Load, name: str) -> None:
    """A padded batch gives the inputs and gradients of each example run by itself."""
    model = load(name)
    sites, examples = last_sites(model), [EXAMPLES["text"], EXAMPLES["two turns"]]
    if model.vision:
        examples = [EXAMPLES["one image"], EXAMPLES["one image"]]
    offered = [replace(one, options=("yes", "no", "maybe")) for one in examples]
    traces = record_traces(model, sites, PseudoTask(offered, torch.zeros(2, 3), 3), unit=1e-1)
    (observed,) = observe(
        model, sites, examples, StandaloneSettings(held_out=0.01), gradients=False
    )
    start = 0
    for number, example in enumerate(offered):
        x, g = plain(model, sites, example)
        whole, _ = plain(model, sites, examples[number], answer=True)
        stop = start + len(model.encode(example).input_ids)
        for site in sites:
            width = x[site.key].shape[0]
            recorded = traces.x[site.key][number, -width:], traces.g[site.key][number, :, -width:]
            assert_close(recorded[0], x[site.key], 2e-3)
            assert_close(recorded[1], g[site.key] / 1e-1, 2e-3)
            rows = observed.sites[site.key]["x"][start:stop]
            assert_close(rows, whole[site.key], LOOSE.get(name, 1e-5))
        start = stop


def assert_close(found: Tensor, expected: Tensor, near: float) -> None:
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    difference = (found.float() - expected).norm() / expected.norm()
    assert difference < near, float(difference)


def plain(
    model: Backbone, sites: list[AdapterSite], example: Example, answer: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return inputs [T, d] and contrasts' gradients [2, T, d] of one example without padding."""
    batch = model.collate([model.encode(example, answer=answer)])
    x: dict[str, Tensor] = {}
    y: dict[str, Tensor] = {}

    def keep(key: str, given: Tensor, output: Tensor) -> Tensor:
        x[key] = given.detach().flatten(0, -2)
        y[key] = output.clone().requires_grad_()
        return y[key]

    handles = [
        linear_at(model, site).register_forward_hook(
            lambda _, given, output, key=site.key: keep(key, given[0], output)
        )
        for site in sites
    ]
    logits = model.model(**batch.inputs, use_cache=False).logits[0, -1]
    for handle in handles:
        handle.remove()
    if answer:
        return x, {}
    first = [model.answer_ids(word)[0] for word in example.options]
    contrasts = CONTRASTS @ logits[first].float()
    found = [torch.autograd.grad(value, list(y.values()), retain_graph=True) for value in contrasts]
    rows = zip(y, zip(*found, strict=True), strict=True)
    return x, {key: torch.stack([one.flatten(0, -2) for one in own]) for key, own in rows}


@pytest.mark.parametrize(
    ("name", "other", "refine"),
    [
        pytest.param(*pair, refine, id="-".join((*pair, kind)))
        for pair in PAIRS
        for kind, refine in (("closed form", None), ("refined", REFINE))
        if refine is None or pair[0] not in ONE_START
    ],
)
def test_two_families_are_aligned_at_the_sites_that_both_have(
    quick: None, load: Load, name: str, other: str, refine: dict[str, int] | None
) -> None:
    models = [load(name), load(other)]
    chosen = StandaloneSettings(r=4, num_blocks=1, probes=2, refine=refine)  # type: ignore[arg-type]
    placement = chosen.placement_for(models)
    public = PICTURES if all(model.vision for model in models) else TEXTS
    for aligned, model in zip(
        align(models, models[1], public, chosen.alignment, placement), models, strict=True
    ):
        sites = placement.sites([model.num_layers - 1])
        assert [(one["layer"], one["module"]) for one in aligned.report["sites"]] == [
            (site.layer, site.module) for site in sites
        ]
        for site in sites:
            d_in, d_out = site_widths(model, site)
            assert aligned.tensors[f"{site.key}.A"].shape == (4, d_in)
            assert aligned.tensors[f"{site.key}.B"].shape == (d_out, 4)
        assert all(bool(value.isfinite().all()) for value in aligned.tensors.values())


def test_placement_has_what_all_models_have(load: Load) -> None:
    models = [load("phi3"), load("llama")]
    found = StandaloneSettings(num_blocks=1).placement_for(models)
    assert found == Placement(16, 1, ("o_proj", "down_proj"))
    with pytest.raises(ModelError, match=r"phi3.* has no adapted module 'q_proj'.*--set modules"):
        StandaloneSettings(num_blocks=1, modules=("q_proj",)).placement_for(models)
    with pytest.raises(ModelError, match=r"phi3: A model of 3 layers cannot be cut into 4 blocks"):
        StandaloneSettings().placement_for(models)


def test_vision_models_are_aligned_on_texts(load: Load) -> None:
    models = [load("qwen2_vl"), load("llava_llama")]
    chosen = StandaloneSettings(r=4, num_blocks=1, modules=("o_proj",), probes=2)
    (found, _) = align(models, models[1], TEXTS, chosen.alignment, chosen.placement)
    assert found.report["sites"][0]["residual_after"] < found.report["sites"][0]["residual_before"]


def test_a_model_whose_tokens_have_no_known_place_is_named(load: Load) -> None:
    models = [load("paligemma"), load("llava_llama")]
    chosen = StandaloneSettings(r=4, num_blocks=1, modules=("o_proj",))
    with pytest.raises(ModelError, match=r"paligemma has no chat template.*without an alignment"):
        align(models, models[1], PICTURES, chosen.alignment, chosen.placement)


def test_a_first_layer_that_sees_the_same_in_all_examples_is_refused(
    quick: None, load: Load
) -> None:
    models = [load("llama"), load("qwen2")]
    chosen = StandaloneSettings(r=4, num_blocks=3, refine=REFINE)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"at block\.0\.q_proj.*Lower num_blocks"):
        align(models, models[1], TEXTS, chosen.alignment, chosen.placement)


def test_places_of_images_are_those_of_the_coarsest_grid() -> None:
    fine, coarse = image_table(16), image_table(4)
    with_class = image_table(5)
    found = number_places([fine, coarse, with_class])
    assert found[0].view(4, 4).tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2
    assert found[1].tolist() == [0, 1, 2, 3]
    assert found[2].tolist() == [-1, 0, 1, 2, 3]


def image_table(places: int) -> Tensor:
    return torch.tensor([[TokenKind.IMAGE, 0, place, places] for place in range(places)])


def test_models_with_other_image_sizes_have_the_same_places(load: Load) -> None:
    models = [load("qwen2_vl"), load("llava_llama"), load("gemma3")]
    found = image_places(models, PICTURES[:3])
    assert len({tuple(sorted(set(own.tolist()))) for model in found for own in model}) == 1
    assert len({len(own) for model in found for own in model}) > 1
