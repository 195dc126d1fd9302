"""Test that sites align their models without the pivot, as one machine with all models does."""

from __future__ import annotations

from pathlib import Path

import pytest
from sites import site_of

from fedmosaic.alignment import Alignment
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import load_scenario, override
from fedmosaic.data.example import fingerprint
from fedmosaic.distributed.facts import SiteFacts, site_facts
from fedmosaic.distributed.joining import settle
from fedmosaic.distributed.published import SERVER, check_published, publish_pivot, publisher
from fedmosaic.distributed.refusals import served
from fedmosaic.distributed.shared import shared_settings, site_runtime
from fedmosaic.errors import ConfigError, DataError, UpdateError
from fedmosaic.federation.pools import ModelPool
from fedmosaic.federation.run import resolve
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.names import locate
from tiny_scenario import TINY

PIVOT = "miniature/llama-8x96"


def run_settings(*overrides: str) -> RunSettings:
    chosen = ["alignment.method=gradients", "adapter.target_modules=[q_proj]", *overrides]
    scenario = override(Scenario.model_validate(TINY), chosen, "tiny")
    return RunSettings(name="tiny", trackers=(), scenario=scenario)


SIMULATED = run_settings()
POOL = ModelPool(SIMULATED.scenario.models)


@pytest.fixture(scope="module")
def facts() -> list[SiteFacts]:
    return [site_facts(site_of(SIMULATED, name), POOL) for name in ("a", "b", "c", "d")]


@pytest.fixture(scope="module")
def settled(facts: list[SiteFacts]) -> RunSettings:
    return settle(served(SIMULATED), facts)


@pytest.fixture(scope="module")
def payload(settled: RunSettings) -> bytes:
    runtime, _ = site_runtime(shared_settings(settled), site_of(SIMULATED, "a"), POOL)
    return publish_pivot(runtime)


def aligned(runtime: Runtime, name: str) -> Alignment:
    found = runtime.alignment(name)
    assert found is not None
    return found


def test_sites_align_their_models_as_one_machine_does(
    settled: RunSettings, payload: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = Runtime(resolve(Runtime(SIMULATED, POOL)), POOL)
    check_published(payload, settled, public=fingerprint(simulated.alignment_data()))
    for name in ("a", "b", "c"):
        expected = aligned(simulated, settled.scenario.clients["abc".index(name)].model)
        with monkeypatch.context() as patch:
            patch.setenv("FEDMOSAIC_CACHE", str(tmp_path / f"site-{name}"))
            site = site_of(SIMULATED, name)
            runtime, spec = site_runtime(shared_settings(settled), site, POOL, payload)
            found = aligned(runtime, spec.model)
        assert found.identity == expected.identity and found.digest == expected.digest
        report = {k: v for k, v in expected.report.items() if k != "cka" or name == "a"}
        assert found.report == report


def test_whose_model_is_the_pivot_publishes(facts: list[SiteFacts], settled: RunSettings) -> None:
    def unknown() -> str:
        raise AssertionError("the server needs no public data for this")

    assert settled.scenario.alignment.pivot == PIVOT and publisher(settled, unknown) == "a"
    others = settle(served(SIMULATED), facts[1:3])
    assert publisher(others, unknown) == "b"
    alike = settle(served(SIMULATED), [facts[0], facts[3]])
    assert publisher(alike, unknown) is None
    for plain in (run_settings("alignment.method=none"), run_settings("adapter.num_blocks=0")):
        assert publisher(settle(served(plain), facts), unknown) is None


def test_the_server_publishes_a_pivot_that_no_client_has(
    facts: list[SiteFacts], payload: bytes
) -> None:
    simulated = run_settings(f"alignment.pivot={PIVOT}")
    with pytest.raises(ConfigError, match=r"alignment.pivot: no client has .*8x96'; name a client"):
        settle(served(simulated), facts[1:3])
    settled = settle(served(simulated), facts[1:3], models=POOL)
    assert publisher(settled, str) == SERVER
    assert publish_pivot(Runtime(settled, POOL)) == payload
    check_published(payload, settled)
    absent = run_settings("alignment.pivot=/no/such/pivot")
    with pytest.raises(ConfigError, match=r"no client has .*pivot', and the server has none eith"):
        settle(served(absent), facts[1:3], models=POOL)


def test_the_pivots_folder_stays_at_its_site(settled: RunSettings, tmp_path: Path) -> None:
    folder = tmp_path / "secret-place" / "weights"
    folder.parent.mkdir()
    folder.symlink_to(Path(locate(PIVOT).place))
    site = site_of(SIMULATED, "a", model=str(folder))
    runtime, spec = site_runtime(shared_settings(settled), site)
    assert spec.model == str(folder) and b"secret-place" not in publish_pivot(runtime)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", "damaged or of another kind"),
        ("changed", "damaged|NaN|do not fit"),
        ("empty", "the server sent nothing of the pivot miniature/llama-8x96"),
    ],
)
def test_damaged_numbers_are_refused(
    settled: RunSettings, payload: bytes, kind: str, message: str
) -> None:
    damaged = {
        "cut": payload[:-5],
        "changed": payload[:8] + b"#" + payload[9:],
        "empty": b"",
    }[kind]
    site = site_of(SIMULATED, "b")
    with pytest.raises(UpdateError, match=message):
        site_runtime(shared_settings(settled), site, POOL, damaged)
    if damaged:
        with pytest.raises(UpdateError, match=message):
            check_published(damaged, settled)


def test_numbers_of_another_pivot_or_setting_are_refused(
    facts: list[SiteFacts], settled: RunSettings, payload: bytes
) -> None:
    with pytest.raises(UpdateError, match=r"at most 1,000 are accepted"):
        check_published(payload, settled, limit=1000)
    with pytest.raises(UpdateError, match="about other public examples than the server's"):
        check_published(payload, settled, public="0" * 32)
    others = settle(served(SIMULATED), facts[1:3])
    with pytest.raises(UpdateError, match=f"fingerprint {facts[0].weights}, but the pivot's is"):
        check_published(payload, others)
    changed = settle(served(run_settings("alignment.seed=1")), facts)
    with pytest.raises(ConfigError, match="other alignment settings: seed is 0, here 1"):
        check_published(payload, changed)
    with pytest.raises(ConfigError, match="other alignment settings: seed is 0, here 1"):
        site_runtime(shared_settings(changed), site_of(SIMULATED, "b"), POOL, payload)


def test_a_site_with_other_public_data_is_refused(settled: RunSettings, payload: bytes) -> None:
    shared = shared_settings(settled)
    runtime, spec = site_runtime(shared, site_of(SIMULATED, "b"), POOL, payload)
    runtime.tasks._public = list(runtime.public())[::-1]
    with pytest.raises(DataError, match=r"alignment: .*use the same public data"):
        runtime.alignment(spec.model)


def test_refined_alignments_are_those_of_the_package() -> None:
    simulated = RunSettings(name="cross", scenario=load_scenario("miniature/cross-family"))
    sites = {c.name: site_of(simulated, c.name, others=[]) for c in simulated.scenario.clients}
    chosen = [sites[name] for name in list(sites)[:3]]
    facts = [site_facts(site, POOL) for site in chosen]
    settled = settle(served(simulated), facts)
    public = fingerprint(Runtime(simulated).alignment_data())
    assert publisher(settled, lambda: public) is None
    runtime, spec = site_runtime(shared_settings(settled), chosen[0], POOL)
    assert aligned(runtime, spec.model).scaled
    with pytest.raises(ConfigError, match=r"cross: alignment.refine needs all models in one place"):
        publisher(settled, lambda: "0" * 32)
