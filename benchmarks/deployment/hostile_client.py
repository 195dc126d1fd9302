"""Be a client that sends what it should not: ``FILE`` of ``fedmosaic client``, and variables.

The file that ``HOSTILE_MODE`` names says what the client does with its next update: ``nan`` puts a
value into it that is no number, ``shapes`` cuts a tensor, ``long`` makes the message longer than
``HOSTILE_BYTES``, ``replay`` sends the former round's answer. Everything else is the real client.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from fedmosaic.algorithms import Message
from fedmosaic.cli import main as fedmosaic
from fedmosaic.distributed.messages import decode_request, decode_response, encode
from fedmosaic.distributed.site import ClientSite
from fedmosaic.federation.wire import pack, unpack

honest = ClientSite.__call__
former: list[bytes] = []


def answer(self: ClientSite, payload: bytes) -> bytes:
    """Return the honest answer, or a changed one to a turn."""
    found = honest(self, payload)
    if decode_request(payload).kind != "turn":
        return found
    mode = Path(os.environ["HOSTILE_MODE"]).read_text().strip()
    changed = changed_update(found, mode) if mode else found
    if not mode:
        former[:] = [found]
    return changed


def changed_update(found: bytes, mode: str) -> bytes:
    """Return the answer that is sent in place of an honest one."""
    if mode == "replay":
        return former[0]
    reply = decode_response(found)
    if mode == "long":
        return encode(replace(reply, body=bytes(int(os.environ["HOSTILE_BYTES"]))))
    message = unpack(reply.body)
    tensors = {name: value.clone() for name, value in message.tensors.items()}
    name = next(name for name, value in tensors.items() if value.dim() > 1)
    if mode == "nan":
        tensors[name][0] = torch.nan
    else:
        tensors[name] = tensors[name][:1].contiguous()
    return encode(replace(reply, body=pack(Message(tensors, message.scalars))))


def main() -> None:
    """Run ``fedmosaic client`` with the changed answers."""
    ClientSite.__call__ = answer  # type: ignore[method-assign]
    sys.argv = ["fedmosaic", "client", *sys.argv[1:]]
    sys.exit(fedmosaic())


if __name__ == "__main__":
    main()
