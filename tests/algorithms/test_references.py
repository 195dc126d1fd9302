"""Compare algorithms with float64 references from the papers, with AdamW written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_problem import (
    DEPTH,
    PRESENT,
    SAMPLES,
    SCALE,
    STEPS,
    Adam,
    State,
    data,
    first_client,
    ours,
    start,
)

from fedmosaic.adapters import shared_state


# --- the references -------------------------------------------------------------------------------
def gradients(base: list[Tensor], adapters: list[State], x: Tensor, y: Tensor) -> list[State]:
    """Return ∇ of ½ mean ‖W_2 W_1 x − y‖² for each adapter: dB = s G Aᵀ, dA = s Bᵀ G."""
    keys = [f"layer.{i}.q_proj" for i in range(DEPTH)]
    whole = [
        w + sum(SCALE * a[f"{k}.B"] @ a[f"{k}.A"] for a in adapters)
        for k, w in zip(keys, base, strict=True)
    ]
    hidden = x @ whole[0].T
    error = (hidden @ whole[1].T - y) / len(x)
    outer = [whole[1].T @ error.T @ x, error.T @ hidden]
    found: list[State] = []
    for a in adapters:
        found.append({})
        for key, g in zip(keys, outer, strict=True):
            found[-1][f"{key}.A"] = SCALE * a[f"{key}.B"].T @ g
            found[-1][f"{key}.B"] = SCALE * g @ a[f"{key}.A"].T
    return found


def weighted(states: Sequence[State], weights: Sequence[float]) -> State:
    total = sum(weights)
    return {
        key: sum(w / total * s[key] for w, s in zip(weights, states, strict=True))
        for key in states[0]
    }


def single(
    correct: Callable[..., State], weigh: bool = True, after: Callable[..., None] = lambda *_: None
) -> Any:
    """Return FedAvg with gradients ``correct(gradient, θ, received θ, client)``."""

    def run(name: str) -> list[dict[str, State]]:
        base, adapters = start(name)
        common, clients = adapters["local"], [dict(adapters["local"]) for _ in SAMPLES]
        for round, present in enumerate(PRESENT):
            for i in present:
                clients[i], adam, raw = dict(common), Adam(), []
                for step in range(STEPS):
                    g = gradients(base, [clients[i]], *data(i, round, step))[0]
                    raw.append(g)
                    adam.step(clients[i], correct(g, clients[i], common, i))
                after(i, raw)
            after(None, None)
            common = weighted(
                [clients[i] for i in present], [SAMPLES[i] if weigh else 1 for i in present]
            )
        return [{"local": state} for state in clients]

    return run


def scaffold(name: str) -> list[dict[str, State]]:
    own: list[State] = [{} for _ in SAMPLES]
    mean: State = {}

    def correct(g: State, _: State, __: State, i: int) -> State:
        return {k: v + mean.get(k, 0) - own[i].get(k, 0) for k, v in g.items()}

    waiting: dict[int, State] = {}

    def after(i: int | None, raw: Any) -> None:
        if i is not None:
            waiting[i] = {k: sum(g[k] for g in raw) / STEPS for k in raw[0]}
            return
        for j, c in waiting.items():
            own[j] = c
        waiting.clear()
        for key in own[0]:
            mean[key] = sum(c.get(key, torch.zeros_like(own[0][key])) for c in own) / len(own)

    return single(correct, weigh=False, after=after)(name)  # type: ignore[no-any-return]


def fedper(name: str) -> list[dict[str, State]]:
    base, adapters = start(name)
    common, clients = adapters["local"], [dict(adapters["local"]) for _ in SAMPLES]
    lasting = [Adam() for _ in SAMPLES]
    shared = [key for key in common if key.startswith("layer.0.")]
    for round, present in enumerate(PRESENT):
        for i in present:
            clients[i] |= {key: common[key] for key in shared}
            adam = Adam()
            for step in range(STEPS):
                g = gradients(base, [clients[i]], *data(i, round, step))[0]
                adam.step(clients[i], {key: g[key] for key in shared})
                lasting[i].step(clients[i], {key: g[key] for key in g if key not in shared})
        common = weighted([clients[i] for i in present], [SAMPLES[i] for i in present])
    return [{"local": state} for state in clients]


def rolora(name: str) -> list[dict[str, State]]:
    base, adapters = start(name)
    common, clients = adapters["local"], [dict(adapters["local"]) for _ in SAMPLES]
    for round, present in enumerate(PRESENT):
        trained = [key for key in common if key.endswith("BAB"[round])]
        for i in present:
            clients[i], adam = dict(common), Adam()
            for step in range(STEPS):
                g = gradients(base, [clients[i]], *data(i, round, step))[0]
                adam.step(clients[i], {key: g[key] for key in trained})
        mean = weighted([clients[i] for i in present], [SAMPLES[i] for i in present])
        common = common | {key: mean[key] for key in trained}
    return [{"local": state} for state in clients]


def fed_sb(name: str) -> list[dict[str, State]]:
    """Train R by dR = s Bᵀ G Aᵀ = Bᵀ dB, where dB is the gradient of a LoRA with B R for its B."""
    options = {"start": "random"}
    base, adapters = start(name, options)
    frozen = shared_state(first_client(name, options)[1].model)
    common, clients = adapters["local"], [dict(adapters["local"]) for _ in SAMPLES]
    for round, present in enumerate(PRESENT):
        for i in present:
            clients[i], adam = dict(common), Adam()
            for step in range(STEPS):
                lora: State = {}
                for key, r in clients[i].items():
                    a, b = (frozen[f"{key[:-1]}{x}"].double() for x in "AB")
                    lora |= {f"layer{key[5:-1]}A": a, f"layer{key[5:-1]}B": b @ r}
                g = gradients(base, [lora], *data(i, round, step))[0]
                adam.step(
                    clients[i],
                    {
                        key: frozen[f"{key[:-1]}B"].double().T @ g[f"layer{key[5:-1]}B"]
                        for key in common
                    },
                )
        common = weighted([clients[i] for i in present], [SAMPLES[i] for i in present])
    return [{"local": state} for state in clients]


def fedex_lora(name: str) -> list[dict[str, State]]:
    base, adapters = start(name)
    common, clients = adapters["local"], [dict(adapters["local"]) for _ in SAMPLES]
    for round, present in enumerate(PRESENT):
        for i in present:
            clients[i], adam = dict(common), Adam()
            for step in range(STEPS):
                adam.step(clients[i], gradients(base, [clients[i]], *data(i, round, step))[0])
        total = sum(SAMPLES[i] for i in present)
        common = weighted([clients[i] for i in present], [SAMPLES[i] for i in present])
        for layer, w in enumerate(base):
            a, b = f"layer.{layer}.q_proj.A", f"layer.{layer}.q_proj.B"
            exact = sum(SAMPLES[i] / total * clients[i][b] @ clients[i][a] for i in present)
            base[layer] = w + SCALE * (exact - common[b] @ common[a])
    return [{"local": state} for state in clients]


def paired(together: bool, lam: float = 0.0) -> Any:
    """Return FedSim (``together``: one loss of the sum) or Ditto (a loss each)."""

    def run(name: str) -> list[dict[str, State]]:
        base, adapters = start(name)
        common, shared = adapters["global"], [dict(adapters["global"]) for _ in SAMPLES]
        own, lasting = [dict(adapters["local"]) for _ in SAMPLES], [Adam() for _ in SAMPLES]
        for round, present in enumerate(PRESENT):
            for i in present:
                shared[i], adam = dict(common), Adam()
                for step in range(STEPS):
                    batch = data(i, round, step)
                    if together:
                        for_shared, for_own = gradients(base, [shared[i], own[i]], *batch)
                    else:
                        for_shared = gradients(base, [shared[i]], *batch)[0]
                        for_own = gradients(base, [own[i]], *batch)[0]
                        for_own = {k: g + lam * (own[i][k] - common[k]) for k, g in for_own.items()}
                    adam.step(shared[i], for_shared)
                    lasting[i].step(own[i], for_own)
            common = weighted([shared[i] for i in present], [SAMPLES[i] for i in present])
        return [{"local": v, "global": w} for v, w in zip(own, shared, strict=True)]

    return run


def mixed_output(base: list[Tensor], own: State, rest: State, x: Tensor) -> Tensor:
    """Return FedALT's output, with an adapter's share of every row of x of its own."""
    for i, weight in enumerate(base):
        key = f"layer.{i}.q_proj"
        shares = torch.softmax(x @ own[f"gate.{i}.q_proj"].T, dim=1)
        own_change, rest_change = (
            SCALE * x @ each[f"{key}.A"].T @ each[f"{key}.B"].T for each in (own, rest)
        )
        x = x @ weight.T + shares[:, :1] * own_change + shares[:, 1:] * rest_change
    return x


def fedalt(name: str) -> list[dict[str, State]]:
    base, adapters = start(name)
    own, lasting = [dict(adapters["local"]) for _ in SAMPLES], [Adam() for _ in SAMPLES]
    rest, sent = [dict(adapters["global"]) for _ in SAMPLES], {}
    for round, present in enumerate(PRESENT):
        before = dict(sent)
        for i in present:
            others = [before[j] for j in before if j != i]
            if others:
                rest[i] = weighted(others, [1] * len(others))
            for step in range(STEPS):
                x, y = data(i, round, step)
                leaves = {k: v.detach().requires_grad_() for k, v in own[i].items()}
                error = mixed_output(base, leaves, rest[i], x) - y
                found = torch.autograd.grad(
                    0.5 * error.square().sum() / len(x), list(leaves.values())
                )
                lasting[i].step(own[i], dict(zip(leaves, found, strict=True)))
            sent[i] = {k: v for k, v in own[i].items() if not k.startswith("gate.")}
    return [{"local": v, "global": w} for v, w in zip(own, rest, strict=True)]


REFERENCES: dict[str, tuple[dict[str, Any], Any]] = {
    "fedavg": ({}, single(lambda g, *_: g)),
    "fedprox": (
        {"mu": 0.7},
        single(
            lambda g, theta, received, _: {
                k: v + 0.7 * (theta[k] - received[k]) for k, v in g.items()
            }
        ),
    ),
    "scaffold": ({}, scaffold),
    "fedper": ({}, fedper),
    "rolora": ({}, rolora),
    "fedex-lora": ({}, fedex_lora),
    "fed-sb": ({"start": "random"}, fed_sb),
    "fedsim": ({}, paired(together=True)),
    "ditto": ({"lam": 0.4}, paired(together=False, lam=0.4)),
    "fedalt": ({}, fedalt),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_same_numbers_as_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, reference = REFERENCES[name]
    found, expected = ours(name, options, monkeypatch), reference(name)
    for client, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        assert theirs.keys() == mine.keys() - {"residual"}
        for adapter, state in theirs.items():
            for key, value in state.items():
                assert torch.allclose(mine[adapter][key].double(), value, atol=2e-5), (
                    client,
                    adapter,
                    key,
                )


def test_the_references_differ_from_one_another() -> None:
    results = [
        reference(name)[0]["local"]["layer.1.q_proj.B"]
        for name, (_, reference) in REFERENCES.items()
        if name != "fed-sb"  # it has no B of its own
    ]
    for i, one in enumerate(results):
        assert all(not torch.allclose(one, two, atol=1e-3) for two in results[i + 1 :])
