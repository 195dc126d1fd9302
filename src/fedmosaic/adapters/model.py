"""Put Co-LoRA on the block-end layers of a model and ordinary LoRA on all others."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from peft import PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTuner
from peft.utils.quantization_utils import get_quantization_kwargs
from torch import Tensor, nn

from fedmosaic.adapters.config import CoLoraConfig
from fedmosaic.adapters.layer import AdaptedLinear
from fedmosaic.adapters.linear import CoLoraLinear, LoraLinear
from fedmosaic.adapters.placement import AdapterSite, block_ends
from fedmosaic.adapters.saved_pair import accept_file, await_pair
from fedmosaic.errors import ModelError
from fedmosaic.models.linear import widths
from fedmosaic.models.roles import RoleModule, roles_by_path, suffixes

_INDEXED = re.compile(r"(?:^|\.)(?P<stack>[^.]*)\.(?P<index>\d+)\.")


class CoLoraModel(BaseTuner):
    """Inject Co-LoRA and LoRA layers for ``peft.get_peft_model(model, CoLoraConfig(...))``.

    ``PeftModel.set_adapter`` takes one name only; use :func:`activate` to switch the gated pair on.
    """

    prefix: str = "colora_"
    tuner_layer_cls = AdaptedLinear
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

    @property
    def _roles(self) -> dict[str, RoleModule]:
        """Return the linear modules of the decoder layers by path; none in other kinds of model."""
        if "_found_roles" not in self.__dict__:
            self.__dict__["_found_roles"] = roles_by_path(self.model)
        found: dict[str, RoleModule] = self.__dict__["_found_roles"]
        return found

    def _prepare_adapter_config(self, peft_config: CoLoraConfig, model_config: Any) -> Any:
        """Fill in ``target_modules`` from the structure of the model."""
        if peft_config.target_modules is None and self._roles:
            peft_config.target_modules = suffixes(self._roles.values())
        return super()._prepare_adapter_config(peft_config, model_config)

    def _check_target_module_exists(self, peft_config: CoLoraConfig, key: str) -> Any:
        """Return whether a module is adapted; never one of a vision tower, a projector or a router.

        Of the linear modules of a language model, only those of its decoder layers and its head
        are.
        """
        if key in self._roles and self._roles[key].excluded:
            return False
        if self._roles and key not in self._roles:
            module = self.model.get_submodule(key)
            if widths(module) is not None and module is not self.model.get_output_embeddings():
                return False
        return BaseTuner._check_target_module_exists(peft_config, key)

    def _create_and_replace(
        self,
        peft_config: CoLoraConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        site = self._site(peft_config, current_key)
        kind = LoraLinear if site.block is None else CoLoraLinear
        if isinstance(target, AdaptedLinear):
            if type(target) is not kind or target.colora_site != site:
                raise ModelError(
                    f"Adapter {adapter_name!r} has other block-end layers than the model's earlier "
                    f"adapters (at {current_key}): give all adapters of a model the same "
                    "num_blocks and block_layers."
                )
            target.update_layer(adapter_name, peft_config)
            if peft_config.saved and isinstance(target, CoLoraLinear):
                await_pair(target, current_key, adapter_name)
            return
        layer = kind(target, adapter_name, peft_config, site, get_quantization_kwargs(self.model))
        layer.train(target.training)
        if adapter_name not in self.active_adapters:
            # An adapter that is added to others is not trainable until it is made active.
            layer.requires_grad_(False)
        if peft_config.saved and isinstance(layer, CoLoraLinear):
            await_pair(layer, current_key, adapter_name)
        self._replace_module(parent, target_name, layer, target)

    def _site(self, config: CoLoraConfig, key: str) -> AdapterSite:
        """Return the site of a module's path such as ``model.layers.3.self_attn.q_proj``."""
        module = self._roles[key].role if key in self._roles else key.rpartition(".")[2]
        site = self._at_block_end(config, key, module)
        if site.block is not None and not config.shares(module, site.block):
            return AdapterSite(site.layer, module, None)
        return site

    def _at_block_end(self, config: CoLoraConfig, key: str, module: str) -> AdapterSite:
        """Return the site of a module, were all modules shared at block ends."""
        found = _INDEXED.search(key)
        if found is None:
            if config.block_layers is None:
                raise ModelError(
                    f"{key} is not inside a list of layers, so it has no depth: set block_layers "
                    "to 'all' (Co-LoRA everywhere) or to a list of layers, or name other "
                    "target_modules."
                )
            return AdapterSite(
                0, module, 0 if config.block_layers == "all" or 0 in config.block_layers else None
            )
        layer = int(found["index"])
        if config.block_layers == "all":
            return AdapterSite(layer, module, layer)
        if config.block_layers is None:
            stack = self.model.get_submodule(key[: found.start("index") - 1])
            ends: tuple[int, ...] = block_ends(len(list(stack.children())), config.num_blocks)
        else:
            ends = tuple(sorted(int(i) for i in config.block_layers))
        return AdapterSite(layer, module, ends.index(layer) if layer in ends else None)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Cast as PEFT does; A and B follow the trained weights only without upcasting."""
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        if autocast_adapter_dtype:
            return
        for layer in self.model.modules():
            if isinstance(layer, CoLoraLinear) and adapter_name in layer.colora_P:
                for name in ("frozen_A", "frozen_B"):
                    layer.shared_colora[name] = layer.shared_colora[name].to(
                        layer.colora_P[adapter_name].dtype
                    )

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Rename keys as PEFT does, and refuse an adapter without A and B or with another pair.

        All adapters of a layer share one A and B. Loading another pair would silently change the
        meaning of the adapters that are already in the model.
        """
        state_dict = accept_file(model, adapter_name, state_dict)
        renamed: dict[str, Tensor] = super()._remap_adapter_state_dict_for_load(
            model, config, adapter_name, state_dict
        )
        return renamed

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
        new_bias: bool = False,
    ) -> Any:
        if merge and not new_bias:
            self._refuse_new_bias(adapter_names)
        return super()._unload_and_optionally_merge(merge, progressbar, safe_merge, adapter_names)

    def merge_and_unload(
        self,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
        new_bias: bool = False,
    ) -> nn.Module:
        """Merge the adapters into the base model and return it.

        Args:
            progressbar: Show a progress bar.
            safe_merge: Check the merged weights for NaN and Inf.
            adapter_names: Adapters to merge; None: the active ones.
            new_bias: Allow Q to become a bias of layers that have none. The result is right in
                memory, but most model classes drop such a bias when the model is saved and loaded
                again. ``export_to_folder`` keeps it.

        Raises:
            ModelError: Q would become such a bias and ``new_bias`` is False.
        """
        return self._unload_and_optionally_merge(  # type: ignore[no-any-return]
            progressbar=progressbar,
            safe_merge=safe_merge,
            adapter_names=adapter_names,
            new_bias=new_bias,
        )

    def _refuse_new_bias(self, adapter_names: list[str] | None) -> None:
        for name, layer in self.model.named_modules():
            if not isinstance(layer, CoLoraLinear) or (
                layer.get_base_layer().bias is not None and not layer._added_bias
            ):
                continue
            merging = {*(adapter_names or layer.active_adapters), *layer.merged_adapters}
            if any(
                adapter in layer.colora_Q and bool(layer.colora_Q[adapter].any())
                for adapter in merging
            ):
                raise ModelError(
                    f"Merging would give {name} a bias (s B Q) that its model class does not have "
                    "and drops when saving. Use fedmosaic.adapters.export_to_folder for an "
                    "ordinary LoRA, merge_and_unload(new_bias=True) to keep it in memory, or "
                    "adapters without Q (q=False)."
                )


def build_pair(model: nn.Module, config: CoLoraConfig) -> PeftModel:
    """Add FedMosaic's pair of adapters to a model: ``local`` trains, ``global`` is frozen.

    Both are active and mixed by the gate.

    Args:
        model: The base model; it is changed in place, as by ``peft.get_peft_model``.
        config: One config for both adapters, with their names ``local_name`` and ``global_name``.
    """
    peft_model = get_peft_model(model, config, adapter_name=config.local_name)
    peft_model.add_adapter(config.global_name, config)
    activate(peft_model, config.local_name, config.global_name)
    return peft_model


def activate(model: PeftModel, *names: str) -> None:
    """Make exactly these adapters active: ``activate(model, "local", "global")`` for the pair.

    Raises:
        ModelError: the model has no adapter of that name.
    """
    for name in names:
        if name not in model.peft_config:
            raise ModelError(
                f"The model has no adapter {name!r}; "
                f"it has {', '.join(map(repr, model.peft_config))}."
            )
    model.base_model.set_adapter(list(names))
