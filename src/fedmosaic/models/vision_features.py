"""Compute the image features of frozen vision towers, once for every image."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.data.example import Image
from fedmosaic.errors import FedMosaicError, ModelError
from fedmosaic.models.feature_database import LIMIT, FeatureDatabase


class VisionTower:
    """Run the frozen tower of a LLaVA-style model, with a cache of its features.

    The features are those that enter the projector: the hidden states of ``vision_feature_layer``,
    without the class token under the ``default`` selection strategy. Models whose towers hold equal
    weights share one cache.

    Args:
        tower: The vision model; never trained.
        processor: Its image processor (PIL backend).
        layer: Index of the hidden state to take, or several to concatenate.
        drop_class_token: Leave the first token out.

    Attributes:
        seconds: Time spent in the tower so far, without loading and preprocessing images.
        database: Features that other processes have computed, for all towers of this process; None:
            they are not shared.
    """

    # All towers of the process share these caches.
    _caches: dict[str, FeatureCache] = {}  # noqa: RUF012
    database: FeatureDatabase | None = None

    def __init__(
        self, tower: nn.Module, processor: Any, layer: int | list[int], drop_class_token: bool
    ) -> None:
        self.tower = tower
        self.processor = processor
        self.layers = [layer] if isinstance(layer, int) else list(layer)
        self.drop_class_token = drop_class_token
        self.seconds = 0.0
        self.fingerprint = self._fingerprint()
        self.cache = self._caches.setdefault(self.fingerprint, FeatureCache())

    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(
            repr((self.layers, self.drop_class_token)).encode(), digest_size=16
        )
        digest.update(
            repr(sorted(self.processor.to_dict().items(), key=lambda item: item[0])).encode()
        )
        for name, value in self.tower.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
        return digest.hexdigest()

    def features(self, images: Sequence[Image]) -> Tensor:
        """Return features [images, tokens, width] on the CPU, computed once for every image.

        Each image goes through the tower alone. In a batch its last bits would depend on the other
        images, and with them every number of a run on the order in which images first appear.
        """
        missing = {image.key: image for image in images if image.key not in self.cache}
        fresh = {key: self._find_or_compute(image) for key, image in missing.items()}
        rows = [
            fresh[image.key] if image.key in fresh else self.cache[image.key] for image in images
        ]
        for key, value in fresh.items():
            self.cache[key] = value
        return torch.stack(rows)

    def _find_or_compute(self, image: Image) -> Tensor:
        if self.database is None:
            return self._compute(image)
        found = self.database.find(self.fingerprint, image.key)
        if found is None:
            found = self._compute(image)
            self.database.add(self.fingerprint, image.key, found)
        return found

    @torch.no_grad()
    def _compute(self, image: Image) -> Tensor:
        first = next(self.tower.parameters())
        pixels = self.processor([image.load()], return_tensors="pt")["pixel_values"]
        started = time.perf_counter()
        output = self.tower(pixels.to(first.device, first.dtype), output_hidden_states=True)
        states = [output.hidden_states[layer] for layer in self.layers]
        joined = torch.cat(
            [state[:, 1:] if self.drop_class_token else state for state in states], dim=-1
        )
        features = joined[0].cpu()
        self.seconds += time.perf_counter() - started
        return features


class FeatureCache:
    """Cache feature tensors of one shape in a temporary file, least recently used first out.

    A run meets more and more images, whose features would fill the memory of the process (576
    tokens of a CLIP tower take 2 MB). In a file they take none of it, and the operating system
    caches what is used again. The file has no name and disappears with the process.

    Args:
        limit: Largest size in bytes. When it is reached, a new entry replaces the least recently
            used one.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._places: OrderedDict[str, int] = OrderedDict()
        self._like = torch.empty(0)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    @property
    def size(self) -> int:
        """Return the bytes of all entries."""
        return len(self) * self._like.nbytes

    @cached_property
    def _file(self) -> Any:
        return tempfile.TemporaryFile(buffering=0)

    def __getitem__(self, key: str) -> Tensor:
        self._places.move_to_end(key)
        value = torch.empty_like(self._like)
        self._file.seek(self._places[key] * value.nbytes)
        self._file.readinto(_bytes(value))
        return value

    def __setitem__(self, key: str, value: Tensor) -> None:
        """Store ``value`` under ``key``, unless the key is there already.

        Raises:
            FedMosaicError: the disk is full.
            ModelError: the value has another shape than the other entries.
        """
        if key in self._places:
            return
        if not len(self):
            self._like = torch.empty_like(value, memory_format=torch.contiguous_format)
        elif value.shape != self._like.shape:
            raise ModelError(
                f"the vision tower gives features {list(self._like.shape)} of one image and "
                f"{list(value.shape)} of another; its image processor must bring all images to one "
                "size"
            )
        place = len(self)
        if place and self.size + value.nbytes > self.limit:
            _, place = self._places.popitem(last=False)
        try:
            self._file.seek(place * value.nbytes)
            if self._file.write(_bytes(value.contiguous())) < value.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise FedMosaicError(
                f"image features cannot be stored in {tempfile.gettempdir()}: {error.strerror}; "
                "set the variable TMPDIR to a folder with more room"
            ) from error
        self._places[key] = place


def _bytes(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor on the CPU."""
    return tensor.view(-1).view(torch.uint8).numpy().data


def find_vision_tower(model: Any, processor: Any) -> VisionTower | None:
    """Return the vision tower of a LLaVA-style model, or None for a language model.

    Raises:
        ModelError: a vision-language model of another structure, whose image tokens do not come
            from one projector.
    """
    config = model.config
    if not hasattr(config, "vision_config"):
        return None
    inner = getattr(model, "model", model)
    if not hasattr(inner, "multi_modal_projector") or not hasattr(inner, "vision_tower"):
        raise ModelError(
            f"{type(model).__name__} is not a LLaVA-style model (vision tower, projector, language "
            "model); use LlavaForConditionalGeneration or a language model"
        )
    return VisionTower(
        inner.vision_tower,
        processor,
        layer=config.vision_feature_layer,
        drop_class_token=config.vision_feature_select_strategy == "default",
    )
