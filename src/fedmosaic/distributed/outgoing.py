"""Declare, check and log what leaves a site: the one way out.

Every reply passes :meth:`Outgoing.release`. It may hold nothing but what is declared here: the
values of :data:`VALUES`, and the tensors of the update that the site announced when it was
prepared, in the groups that its settings allow. Everything that leaves is in the site's log before
it leaves. Where the log cannot be written, one line goes out that says why, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedmosaic import packing
from fedmosaic.alignment.deployment.published import unpack_published
from fedmosaic.config import ShareSettings
from fedmosaic.distributed.messages import SiteResponse, encode
from fedmosaic.errors import SiteError, UpdateError
from fedmosaic.federation.wire import Schema, check, unpack

# What the header of each reply may hold: its client, and what else.
OWN = frozenset({"name", "process", "link"})
VALUES: Mapping[str, frozenset[str]] = {
    "hello": OWN | {"facts", "proof", "newest", "prepared"},
    "publish": OWN,
    "prepare": OWN | {"prepared"},
    "turn": OWN | {"round", "key", "update", "result"},
    "inquire": OWN | {"round", "key", "state"},
    "finish": OWN,
}
RESULT = frozenset(
    {"failure", "records", "fit", "flops", "seconds", "memory", "secret_noise", "new_prototypes"}
)
FIT = frozenset({"steps", "loss", "samples", "tokens", "seconds"})
RECORD = frozenset(
    {"round", "client", "task", "metric", "value", "n", "unreadable", "stage", "view", "seconds"}
    | {"routes"}
)

# Groups of tensors, by the first part of their names.
GROUPS = {
    "block": "colora",
    "frame": "colora",
    "layer": "lora",
    "signature": "signature",
    "prototypes": "prototypes",  # of the client's training prompts
    "moved/block": "colora for other models",  # P and Q that are learned for them
}
OTHER = "predictions"
PUBLIC = "public numbers"  # what the pivot publishes about public examples

_FOLDERS = re.compile(r"(?<![\w.])/(?:[^\s'\":,;/]+/)+")


def group_of(name: str) -> str:
    """Return the group of a tensor, one of :data:`GROUPS`, or ``predictions``."""
    return GROUPS.get(name.split(".", 1)[0], OTHER)


def without_paths(text: str) -> str:
    """Return a text in which paths of this machine have lost their folders."""
    return _FOLDERS.sub("…/", text)


class Outgoing:
    """Let replies out of a site, and keep a log of them.

    Args:
        log: file of the log, one JSON line for each reply.
        share: what the site sends of its own accord.
    """

    def __init__(self, log: Path, share: ShareSettings) -> None:
        self.log = log
        self.share = share

    def release(self, reply: SiteResponse, schema: Schema | None = None) -> bytes:
        """Check a reply, log it and return its bytes; see :meth:`check`."""
        payload = self.check(reply, schema)
        self.note(reply, payload)
        return payload

    def check(self, reply: SiteResponse, schema: Schema | None = None) -> bytes:
        """Return the bytes of a reply that may leave; it is logged by :meth:`note`.

        Args:
            reply: what is to leave.
            schema: names, kinds and shapes of the tensors of an update.

        Raises:
            SiteError: it holds something that is not declared. Nothing leaves then.
        """
        self._check_values(reply)
        if reply.kind == "publish":
            unpack_published(reply.body)
        elif reply.body:
            self._check_update(reply, schema)
        return encode(reply)

    def _check_values(self, reply: SiteResponse) -> None:
        _only(reply.header, VALUES[reply.kind], f"a reply to {reply.kind!r}")
        result = reply.header.get("result")
        if result is not None:
            _only(result, RESULT, "a result")
            _only(result.get("fit") or {}, FIT, "a training report")
            for record in result.get("records") or ():
                _only(record, RECORD, "a score")
            if not self.share.metrics and (result.get("records") or result.get("fit")):
                raise SiteError("scores would leave although share.metrics is false")

    def _check_update(self, reply: SiteResponse, schema: Schema | None) -> None:
        if reply.kind != "turn" or schema is None:
            raise SiteError(f"a reply to {reply.kind!r} would carry {len(reply.body):,} bytes")
        message = unpack(reply.body, share=True)
        try:
            check(message, schema)
        except UpdateError as error:
            raise SiteError(f"an update would leave that was not announced: {error}") from error
        if message.scalars:
            raise SiteError(f"values would leave with the update: {', '.join(message.scalars)}")
        if not self.share.lora and (lora := [n for n in schema if group_of(n) == "lora"]):
            raise SiteError(f"{lora[0]!r} would leave although share.lora is false")

    def note(self, reply: SiteResponse, payload: bytes) -> None:
        """Write into the log that a reply leaves now, also where it leaves once more."""
        tensors = packing.unpack(reply.body, share=True)[0] if reply.body else {}
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "session": reply.session,
            "kind": reply.kind,
            "round": reply.header.get("round"),
            "bytes": len(payload),
            "sha256": hashlib.sha256(payload).hexdigest(),
            "values": sorted(reply.header),
            "error": reply.error,
            "scores": len((reply.header.get("result") or {}).get("records") or ()),
            "tensors": [
                _described(name, value, PUBLIC if reply.kind == "publish" else group_of(name))
                for name, value in sorted(tensors.items())
            ],
        }
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def _only(values: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    """Raise SiteError if there is a value that is not declared."""
    if unknown := sorted(set(values) - known):
        raise SiteError(f"{what} would carry {unknown[0]!r}, which no site sends")


def _described(name: str, value: Tensor, group: str) -> dict[str, Any]:
    plain = value.detach().contiguous().cpu()
    raw = plain.view(torch.uint8) if plain.dim() else plain.reshape(1).view(torch.uint8)
    return {
        "name": name,
        "group": group,
        "shape": list(value.shape),
        "dtype": str(value.dtype).removeprefix("torch."),
        "bytes": value.numel() * value.element_size(),
        "norm": float(torch.linalg.vector_norm(plain.double())) if value.numel() else 0.0,
        "sha256": hashlib.sha256(raw.numpy().tobytes()).hexdigest(),
    }
