"""Compute image features for LLaVA models whose images all have one size."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import PIL.Image
import torch
from torch import Tensor

from fedmosaic.errors import ModelError
from fedmosaic.models.digest import add_weights
from fedmosaic.models.encoding import Tokens, tokenize_text
from fedmosaic.models.feature_cache import FeatureCache, StoredFeatures
from fedmosaic.models.host import to_device
from fedmosaic.models.images import ImageFeatures, Unit, unit_key
from fedmosaic.models.pixel_table import PixelTable
from fedmosaic.models.tower_batches import TowerBatches

# Sizes (width, height) whose number of tokens would differ if it depended on the size.
_SIZES = ((64, 64), (200, 40), (30, 300))


class LlavaImageFeatures(ImageFeatures):
    """Cache what enters the projector of a LLaVA model, not what leaves it.

    These are the hidden states of ``vision_feature_layer``, without the class token under the
    ``default`` selection strategy. They are the same for all models whose towers hold equal
    weights, which share one cache. Every image has the same number of tokens, so texts are
    tokenized without loading images.

    Args:
        name: As of :class:`ImageFeatures`.
        model: As of :class:`ImageFeatures`.
        processor: As of :class:`ImageFeatures`.
        replacement: What the processor writes for any image.

    Attributes:
        alike: The tokens of a text do not depend on its images.
    """

    alike = True

    def __init__(self, name: str, model: Any, processor: Any, replacement: str) -> None:
        self.replacement = replacement
        super().__init__(name, model, processor)
        self.tower = TowerBatches(name, self._selected, 1)
        self.pixels = PixelTable(lambda picture: self._processed([picture]))
        self.tokens_per_image = replacement.count(processor.image_token)

    @property
    def modules(self) -> list[torch.nn.Module]:
        """Return the tower; the projector runs on every batch."""
        return [self.inner.vision_tower]

    def _fingerprint(self) -> str:
        config = self.model.config
        about = (config.vision_feature_layer, config.vision_feature_select_strategy, self.dtype)
        settings = sorted(self.processor.image_processor.to_dict().items())
        digest = hashlib.blake2b(repr((about, settings)).encode(), digest_size=16)
        add_weights(digest, self.inner.vision_tower.state_dict().items())
        return digest.hexdigest()

    def tokenize(self, text: str, images: Unit, special: bool) -> Tokens:
        """Tokenize a text without loading its images; see :meth:`ImageFeatures.tokenize`."""
        (expanded,), (replaced,) = self.processor.get_text_with_replacements(
            [text], [self.replacement] * len(images)
        )
        tokens = tokenize_text(self.processor.tokenizer, expanded, special)
        places = [(*found["span"], *found["new_span"]) for found in replaced]
        return Tokens(tokens.ids, tokens.spans, places, units=tuple((image,) for image in images))

    def outputs(self, units: Sequence[Unit], device: torch.device) -> dict[str, Any]:
        """Return ``mm_encoder_outputs`` of a forward pass, for the images of a batch in order."""
        self.compute_ahead(units)
        selected = torch.stack([self._placed(unit, device)["selected"] for unit in units])
        projector = self.inner.multi_modal_projector
        weight = next(p for p in projector.parameters() if p.is_floating_point())
        with torch.no_grad():
            projected = projector(selected.to(weight.dtype))
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        return {"image": BaseModelOutputWithPooling(pooler_output=list(projected))}

    def run_together(self, size: int, exact: bool = False) -> None:
        """Run the tower on so many images at once; see :class:`TowerBatches`."""
        self.tower.size, self.tower.exact = size, exact
        if (
            size > 1 and not exact
        ):  # other kernels, whose features are not stored with those of single images
            self.fingerprint += f"@{size}"
            self.cache = self._caches.setdefault(self.fingerprint, FeatureCache())

    def compute_ahead(self, units: Sequence[Unit]) -> None:
        """Run the tower on images that are not known yet, where it takes several at once."""
        if self.tower.size > 1:
            found = {unit_key(unit): unit for unit in units}
            new = [item for item in found.items() if not self._is_known(item[0])]
            size = self.tower.most
            for part in (new[start : start + size] for start in range(0, len(new), size)):
                features = self._features([unit for _, unit in part])
                for (key, _), value in zip(part, features, strict=True):
                    self._keep(key, StoredFeatures((value,), ""))

    def _compute(self, unit: Unit, processed: Callable[[], Any] | None) -> StoredFeatures:
        """Run the tower on one image.

        Each image goes through the tower alone, or in batches of one size. In a batch of any size
        its last bits would depend on the other images, and with them every number of a run on the
        order in which images first appear.
        """
        return StoredFeatures((self._features([unit])[0],), "")

    def _features(self, units: Sequence[Unit]) -> list[Tensor]:
        """Run the tower on images and return their features in main memory."""
        if not units:
            return []
        first = next(self.inner.vision_tower.parameters())
        loaded = [image.load() for unit in units for image in unit]
        # An image processor may treat images of one size together, with other bits than alone.
        if self.tower.exact or len(loaded) == 1:
            pixels = torch.cat([self.pixels(picture) for picture in loaded])
        else:
            pixels = self._processed(loaded)
        started = time.perf_counter()
        with torch.no_grad():
            found = self.tower(to_device(pixels.to(self.dtype), first.device)).cpu()
        self.seconds += time.perf_counter() - started
        if found.shape[1] != self.tokens_per_image:
            raise ModelError(
                f"the processor of {self.name} writes {self.tokens_per_image} tokens for an image, "
                f"but its vision tower gives {found.shape[1]} features: give the folder the "
                "processor of this model (preprocessor_config.json, processor_config.json)"
            )
        return list(found)

    def _processed(self, pictures: Sequence[PIL.Image.Image]) -> Tensor:
        """Return the pixels of pictures as the tower takes them."""
        found: Tensor = self.processor.image_processor(pictures, return_tensors="pt")[
            "pixel_values"
        ]
        return found

    def _selected(self, pixels: Tensor) -> Tensor:
        """Return what enters the projector, for the pixels of n images."""
        config = self.model.config
        states = self.inner.vision_tower(pixels, output_hidden_states=True).hidden_states
        layer = config.vision_feature_layer
        chosen = [states[index] for index in ([layer] if isinstance(layer, int) else layer)]
        if config.vision_feature_select_strategy == "default":
            chosen = [state[:, 1:] for state in chosen]
        return torch.cat(chosen, dim=-1)

    def _find(self, unit: Unit, processed: Callable[[], Any] | None = None) -> dict[str, Any]:
        return {"selected": self._stored(unit, processed).tensors[0]}


def find_image_features(name: str, model: Any, processor: Any) -> ImageFeatures:
    """Return the image features of a vision-language model.

    Raises:
        ModelError: as :class:`ImageFeatures`.
    """
    from transformers import LlavaModel
    from transformers.processing_utils import ProcessorMixin

    plain = type(processor).__call__ is ProcessorMixin.__call__
    if plain and type(getattr(model, "model", None)) is LlavaModel:
        blanks = [PIL.Image.new("RGB", size) for size in _SIZES]
        try:
            _, written = processor._process_images(blanks)
        except (ValueError, TypeError, AttributeError):
            written = []
        if written and len(set(written)) == 1:
            return LlavaImageFeatures(name, model, processor, written[0])
    return ImageFeatures(name, model, processor)
