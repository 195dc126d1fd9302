"""Tokenize texts with images, and compute the features of images once.

The model's own processor decides the tokens, and the model's own ``get_image_features`` the
features. Images of one *unit* are processed together. A unit is one image, except where a processor
treats an image otherwise among several (LLaVA-OneVision): there it is all images of an example.
"""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as trees

from fedmosaic.data.image import Image
from fedmosaic.errors import ModelError
from fedmosaic.models.device_features import DeviceFeatures
from fedmosaic.models.digest import add_weights
from fedmosaic.models.encoding import Tokens
from fedmosaic.models.feature_cache import FeatureCache, StoredFeatures
from fedmosaic.models.feature_database import FeatureDatabase
from fedmosaic.models.feature_trees import as_tensor, join, move
from fedmosaic.models.processors import LastImages

Unit = tuple[Image, ...]
FIELDS = ("pooler_output", "deepstack_features")
"""Fields of the output of ``get_image_features`` that the forward pass of a model reads."""
MORE_FIELDS = {"llama4": ("last_hidden_state",), "ovis2": ("visual_indicator_features",)}
"""Further fields, by type of model."""
BY_TOKEN = ("token_type_ids", "mm_token_type_ids")
OF_TEXT = (
    *BY_TOKEN,
    *("input_ids", "attention_mask", "offset_mapping", "labels", "text_replacement_offsets"),
)


class ImageFeatures:
    """Tokenize texts with images for one model, and compute the features of its images once.

    Args:
        name: Name of the model, for messages.
        model: The vision-language model; its tower is never trained.
        processor: Its processor.

    Attributes:
        tokens_per_image: Number of tokens of any image; None where it depends on the image.
        seconds: Time spent in the tower so far, without loading and preprocessing images.
        database: Features that other processes have computed, for all models of this process; None:
            they are not shared.

    Raises:
        ModelError: the model takes no image features that were computed beforehand.
    """

    # All models of the process share these caches.
    _caches: dict[str, FeatureCache] = {}  # noqa: RUF012
    placed = DeviceFeatures()
    database: FeatureDatabase | None = None

    def __init__(self, name: str, model: Any, processor: Any) -> None:
        self.name = name
        self.model = model
        self.inner: Any = getattr(model, "model", model)
        self.processor = processor
        self.tokens_per_image: int | None = None
        self.seconds = 0.0
        self.forward_names = _names(type(model).forward) | _names(type(self.inner).forward)
        if "mm_encoder_outputs" not in self.forward_names:
            raise ModelError(
                f"{name} ({type(model).__name__}) takes no image features that were computed "
                "beforehand, which its training here needs: use a model that places image features "
                "among the tokens, such as LLaVA, Qwen-VL, InternVL, SmolVLM or Gemma 3"
            )
        self.fields = FIELDS + MORE_FIELDS.get(model.config.model_type, ())
        self.fingerprint = self._fingerprint()
        self.cache = self._caches.setdefault(self.fingerprint, FeatureCache())
        self._replacements: dict[str, str] = {}
        self._loaded: tuple[Unit, list[Any]] = ((), [])
        if hasattr(processor, "_process_images"):
            processor._process_images = LastImages(processor._process_images)

    @property
    def modules(self) -> list[nn.Module]:
        """Return the modules that are not run again for an image whose features are known."""
        decoder = self.inner.get_decoder()
        return [
            child
            for child in self.inner.children()
            if all(module is not decoder for module in child.modules())
        ]

    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        about = (type(self.inner).__name__, self.model.config.to_dict(), str(self.dtype))
        settings = sorted(self.processor.image_processor.to_dict().items())
        digest.update(repr((about, settings)).encode())
        for number, module in enumerate(self.modules):
            add_weights(digest, ((f"{number}.{k}", v) for k, v in module.state_dict().items()))
        return digest.hexdigest()

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the tower's weights; quantised weights do not count."""
        found = (
            parameter.dtype
            for module in self.modules
            for parameter in module.parameters()
            if parameter.is_floating_point()
        )
        return next(found, torch.float32)

    def run_together(self, size: int, exact: bool = False) -> None:
        """Run the tower on so many images at once, where it can; here it cannot."""

    def compute_ahead(self, units: Sequence[Unit]) -> None:
        """Compute what is not known of coming images together, where it can; here it cannot."""

    # --- tokens -------------------------------------------------------------------------------
    def tokenize(self, text: str, images: Unit, special: bool) -> Tokens:
        """Tokenize a text with one placeholder for each image, as the processor does.

        Features that are not known yet are computed from the processor's output on the way.

        Args:
            text: The rendered text.
            images: Its images, in the order of their placeholders.
            special: Add the special tokens that the tokenizer puts around a text.

        Raises:
            ModelError: the processor refuses the text or an image.
        """
        out = self.process(text, images, special)
        replaced = self._replaced(out, len(images))
        units = self._units(images, [found["replacement"] for found in replaced])
        self.compute(units, out)
        return Tokens(
            ids=[int(token) for token in out["input_ids"][0]],
            spans=[(int(first), int(last)) for first, last in out["offset_mapping"][0]],
            places=[(*found["span"], *found["new_span"]) for found in replaced],
            by_token={
                name: [int(value) for value in out[name][0]]
                for name in BY_TOKEN
                if name in out and name in self.forward_names
            },
            by_image={
                name: as_tensor(value)
                for name, value in out.items()
                if name in self.forward_names - set(OF_TEXT) and not name.startswith("pixel")
            },
            units=units,
        )

    def _units(self, images: Unit, replacements: Sequence[str]) -> tuple[Unit, ...]:
        """Return each image alone if the processor writes it as it would alone, else all."""
        if len(images) > 1:
            for image, replacement in zip(images, replacements, strict=True):
                if self._replacement(image) != replacement:
                    return (images,)
        return tuple((image,) for image in images)

    def _replacement(self, image: Image) -> str:
        """Return what the processor writes for an image that is alone, and compute its features."""
        if image.key not in self._replacements:
            out = self.process(self.processor.image_token, (image,), special=False)
            (found,) = self._replaced(out, 1)
            self._replacements[image.key] = found["replacement"]
            self._find((image,), lambda: out)
        return self._replacements[image.key]

    def _replaced(self, out: Any, images: int) -> list[dict[str, Any]]:
        """Return what the processor wrote for each placeholder, and where."""
        found: list[dict[str, Any]] = (out.get("text_replacement_offsets") or [[]])[0]
        if len(found) != images:
            raise ModelError(
                f"the processor of {self.name} ({type(self.processor).__name__}) does not tell "
                "where it writes the tokens of an image, so answers cannot be found: use another "
                "model"
            )
        return found

    def process(self, text: str, images: Unit, special: bool, **more: Any) -> Any:
        """Return the processor's output for a text and its images.

        Raises:
            ModelError: the processor refuses them.
        """
        if images != self._loaded[0]:
            self._loaded = (images, [image.load() for image in images])
        pictures = self._loaded[1]
        try:
            return self.processor(
                text=[text],
                images=[pictures] if pictures else None,
                images_kwargs={"return_tensors": "pt"},
                add_special_tokens=special,
                return_offsets_mapping=True,
                return_text_replacement_offsets=True,
                **more,
            )
        except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
            about = f"{len(images)} images" if images else "a text"
            raise ModelError(
                f"the processor of {self.name} ({type(self.processor).__name__}) cannot take "
                f"{about}: {error}"
            ) from error

    def compute(self, units: Sequence[Unit], processed: Any) -> None:
        """Compute features that are not known, where the processor's output is of one unit."""
        if len(units) == 1:
            self._find(units[0], lambda: processed)

    # --- features -----------------------------------------------------------------------------
    def outputs(self, units: Sequence[Unit], device: torch.device) -> dict[str, Any]:
        """Return ``mm_encoder_outputs`` of a forward pass, for the images of a batch in order."""
        pieces = [self._placed(unit, device) for unit in units]
        merged = {
            name: join([piece[name] for piece in pieces], layers=name.startswith("deep"))
            for name in pieces[0]
        }
        return {"image": SimpleNamespace(**{**dict.fromkeys(self.fields), **merged})}

    def _placed(self, unit: Unit, device: torch.device) -> dict[str, Any]:
        """Return the features of a unit on a device, by field."""
        if device.type == "cpu":
            return self._find(unit)
        key = (self.fingerprint, unit_key(unit), device)
        found: dict[str, Any] = self.placed.get(key, lambda: move(self._find(unit), device))
        return found

    def _find(self, unit: Unit, processed: Callable[[], Any] | None = None) -> dict[str, Any]:
        """Return the features of a unit, by field."""
        stored = self._stored(unit, processed)
        arranged: dict[str, Any] = trees.tree_unflatten(
            stored.tensors, trees.treespec_loads(stored.layout)
        )
        return arranged

    def _stored(self, unit: Unit, processed: Callable[[], Any] | None = None) -> StoredFeatures:
        """Return the stored features of a unit, or compute them from the processor's output."""
        key = unit_key(unit)
        if not self._is_known(key):
            self._keep(key, found := self._compute(unit, processed))
            return found
        return self.cache[key]

    def _is_known(self, key: str) -> bool:
        """Return whether features are in the cache, or bring them there from the database."""
        if key not in self.cache and self.database:
            found = self.database.find(self.fingerprint, key)
            if found is not None:
                self.cache[key] = found
        return key in self.cache

    def _keep(self, key: str, found: StoredFeatures) -> None:
        if self.database:
            self.database.add(self.fingerprint, key, found)
        self.cache[key] = found

    def _compute(self, unit: Unit, processed: Callable[[], Any] | None) -> StoredFeatures:
        text = str(self.processor.image_token) * len(unit)
        out = processed() if processed else self.process(text, unit, special=False)
        first = next(self.modules[0].parameters())
        # All but the text: some towers take what get_image_features does not name (Pixtral).
        inputs = {
            name: as_tensor(value).to(first.device)
            for name, value in out.items()
            if name not in OF_TEXT
        }
        inputs = {
            name: value.to(self.dtype) if value.is_floating_point() else value
            for name, value in inputs.items()
        }
        started = time.perf_counter()
        with torch.no_grad():
            output = self.inner.get_image_features(**inputs, return_dict=True)
        self.seconds += time.perf_counter() - started
        read = {name: output[name] for name in self.fields if output.get(name) is not None}
        leaves, spec = trees.tree_flatten(move(read, torch.device("cpu")))
        return StoredFeatures(tuple(leaves), trees.treespec_dumps(spec))


def unit_key(unit: Unit) -> str:
    """Return the name of a unit's features."""
    return unit[0].key if len(unit) == 1 else "+".join([image.key for image in unit])


def _names(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)
