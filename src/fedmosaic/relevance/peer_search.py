"""Find each client's most similar peers without comparing all signatures in full.

    1. Every signature is reduced to a sketch, in one pass: signs are drawn for its entries, and
       entries whose numbers are equal modulo D are added up. Products of sketches estimate cosines
       with a standard deviation of at most about 1/sqrt(D).
    2. Per block of clients, the sketches propose candidates.
    3. The candidates' cosines are computed exactly, in a second pass over the signatures.

The result is that of comparing all pairs as long as every true peer is among the candidates.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fedmosaic.errors import UpdateError
from fedmosaic.seeding import generator

# Buckets of a sketch. A prime number spreads the columns of a gradient, whose widths are powers of
# two or multiples of them, over all buckets.
SKETCH = 1021
# Columns of the signatures that are compared at a time, so that they stay in a processor's cache.
COLUMNS = 512
# Similarities of sketches that are held at a time.
SCORES = 1 << 24


class Signatures(Protocol):
    """Read signatures [n, k] in parts.

    Attributes:
        count: n.
        values: k.
        block: bytes that may be read at a time.
    """

    @property
    def count(self) -> int: ...

    @property
    def values(self) -> int: ...

    @property
    def block(self) -> int: ...

    def read(self, rows: range, columns: range) -> Tensor:
        """Return some rows and columns, float32."""


@dataclass(frozen=True)
class Scaled:
    """Read normalised signatures in parts.

    Attributes:
        signatures: as clients sent them; a missing one is a row of zeros.
        peak: [n], the largest absolute entry of each.
        norm: [n], the length of each after division by its peak.
    """

    signatures: Signatures
    peak: Tensor
    norm: Tensor

    @property
    def present(self) -> Tensor:
        """Return [n] bool, which clients have a signature."""
        return self.peak > 0

    def columns(self) -> Iterator[Tensor]:
        """Yield all columns of the normalised signatures in blocks, [n, columns]."""
        source = self.signatures
        width = max(1, source.block // (4 * max(1, source.count)))
        divisor = torch.where(self.present, self.peak, torch.ones_like(self.peak)).unsqueeze(1)
        norm = self.norm.clamp_min(1e-30).unsqueeze(1)
        for start in range(0, source.values, width):
            columns = range(start, min(start + width, source.values))
            yield (source.read(range(source.count), columns) / divisor).div_(norm)


@dataclass(frozen=True)
class Peers:
    """Hold the most similar peers of each client.

    Attributes:
        peers: [n, k] int64, places of the peers, the most similar first; of equal ones the lower.
        similarity: [n, k] float64, the cosine with each; -inf where a client has fewer peers.
        average: [n] float64, the mean cosine with all other clients that have a signature.
        present: [n] bool, which clients have a signature.
    """

    peers: Tensor
    similarity: Tensor
    average: Tensor
    present: Tensor


def nearest_peers(signatures: Signatures, k: int, candidates: int) -> Peers:
    """Return the ``k`` most similar peers of each client, among those that have a signature.

    Args:
        signatures: [n, values].
        k: number of peers.
        candidates: number of candidates per client, at least ``k``.

    Raises:
        UpdateError: a signature is not finite.
    """
    scaled, sketches, total = _sketched(signatures)
    found = _candidates(sketches, scaled.present, min(candidates, signatures.count - 1))
    peers = found.sort(dim=1).values  # by place, so that a stable sort leaves ties in order
    cosines, with_total = _exact(scaled, peers, total)
    known = scaled.present.sum()
    average = (with_total - 1) / (known - 1).clamp_min(1)
    cosines = cosines.masked_fill(~scaled.present[peers], -torch.inf)
    order = cosines.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return Peers(peers.gather(1, order), cosines.gather(1, order), average, scaled.present)


def scaled_signatures(signatures: Signatures) -> Scaled:
    """Return the signatures with their lengths, which are measured in one pass."""
    return _sketched(signatures, sketch=False)[0]


def _sketched(signatures: Signatures, sketch: bool = True) -> tuple[Scaled, Tensor, Tensor]:
    """Read all signatures once.

    Returns:
        Their scales, their sketches [n, SKETCH] bfloat16, and the sum of all normalised ones.
    """
    n, values = signatures.count, signatures.values
    peak, norm = torch.zeros(n), torch.zeros(n)
    sketches = torch.zeros(n, SKETCH, dtype=torch.bfloat16)
    total = torch.zeros(values, dtype=torch.float64)
    signs = torch.randint(0, 2, (values,), generator=generator("sketch", values)).float() * 2 - 1
    step = max(1, min(64, signatures.block // (4 * max(1, values))))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        block = signatures.read(range(n)[rows], range(values))
        # Row by row: along a dimension it takes ten times the time.
        peak[rows] = torch.stack([torch.stack(torch.aminmax(row)) for row in block]).abs().amax(1)
        if not torch.isfinite(peak[rows]).all():
            bad = (start + (~torch.isfinite(peak[rows])).nonzero().flatten()).tolist()
            raise UpdateError(f"signatures of clients in rows {bad} are not finite")
        scale = peak[rows].unsqueeze(1)
        unit = block / scale.where(scale > 0, torch.ones_like(scale))
        norm[rows] = torch.linalg.vector_norm(unit, dim=1)
        unit.div_(norm[rows].clamp_min(1e-30).unsqueeze(1))
        if sketch:
            total += unit.sum(0)
            padded = torch.nn.functional.pad(unit * signs, (0, -values % SKETCH))
            sketches[rows] = padded.view(len(unit), -1, SKETCH).sum(1).bfloat16()
    return Scaled(signatures, peak, norm), sketches, total


def _candidates(sketches: Tensor, present: Tensor, count: int) -> Tensor:
    """Return the clients with the most similar sketches, [n, count], without oneself."""
    n = len(sketches)
    found = torch.empty(n, count, dtype=torch.long)
    step = max(1, SCORES // n)
    for start in range(0, n, step):
        rows = torch.arange(start, min(start + step, n))
        scores = (sketches[rows] @ sketches.T).float()
        scores[:, ~present] = -torch.inf
        scores[rows - start, rows] = -torch.inf
        # Missing ones share -inf with oneself, so oneself is taken out by place.
        best = scores.topk(min(count + 1, n), dim=1).indices
        others = (best != rows.unsqueeze(1)).to(torch.int8)
        keep = others.sort(dim=1, descending=True, stable=True).indices[:, :count]
        found[rows] = best.gather(1, keep)
    return found


def _exact(scaled: Scaled, peers: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cosine with each of the peers, [n, c], and the product with ``total``, [n]."""
    n, count = peers.shape
    rows = torch.arange(n).unsqueeze(1).expand_as(peers)
    # A pair that both propose is computed once, always in the same order.
    codes = (torch.minimum(rows, peers) * n + torch.maximum(rows, peers)).flatten()
    pairs, place = codes.unique(return_inverse=True)
    counts = torch.bincount(pairs // n, minlength=n)
    pattern = csr(counts, pairs % n, torch.zeros(len(pairs)), n)
    products = torch.zeros(len(pairs), dtype=torch.float64)
    with_total = torch.zeros(n, dtype=torch.float64)
    start = 0
    for block in scaled.columns():
        with_total += block @ total[start : start + block.shape[1]].float()
        start += block.shape[1]
        for part in block.split(COLUMNS, dim=1):
            dense = part.contiguous()
            products += torch.sparse.sampled_addmm(pattern, dense, dense.T, beta=0.0).values()
    return products.clamp_(-1.0, 1.0)[place].view(n, count), with_total


def csr(counts: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    """Return a sparse matrix [len(counts), width] from its rows' numbers of entries."""
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR|invariant)")
        return torch.sparse_csr_tensor(
            starts, columns, values, (len(counts), width), check_invariants=False
        )
