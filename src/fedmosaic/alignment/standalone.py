"""Define the settings of an alignment that is made outside of a federation."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from fedmosaic.adapters.placement import BlockRule, Placement
from fedmosaic.adapters.sharing import with_shared_sites
from fedmosaic.config import AdapterSettings, AlignmentSettings
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.roles import PROJECTIONS


class StandaloneSettings(AlignmentSettings):
    """Set an alignment and the placement of the shared adapters together.

    In a federation the placement is that of its adapters (``adapter:`` in a scenario).
    """

    r: int = Field(default=16, ge=1)
    """Rank of A and B."""

    num_blocks: int = Field(default=4, ge=1)
    """N_B, the number of blocks; A and B are computed for the last layer of each."""

    modules: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Roles of the modules with A and B (``adapter.shared_modules`` in a scenario).

    None: all roles that every model has at the ends of its blocks.
    """

    block_rule: BlockRule = "depth"
    """Rule that chooses the last layers of blocks: ``depth``, ``even`` or ``cka``."""

    @property
    def alignment(self) -> AlignmentSettings:
        """Return the settings of the alignment alone."""
        own = {name: getattr(self, name) for name in AlignmentSettings.model_fields}
        return AlignmentSettings.model_construct(**own)

    @property
    def placement(self) -> Placement:
        """Return the placement for models that have all seven projections."""
        return Placement(self.r, self.num_blocks, self.modules or PROJECTIONS, self.block_rule)

    def placement_for(self, models: Sequence[Backbone]) -> Placement:
        """Return the placement with the sites that all of these models have.

        Raises:
            ModelError: as :func:`fedmosaic.adapters.sharing.shared_sites`.
        """
        adapter = AdapterSettings(
            r=self.r,
            num_blocks=self.num_blocks,
            shared_modules=self.modules,
            block_rule=self.block_rule,
        )
        for model in models:
            try:
                self.placement.block_ends(model.num_layers)
            except ModelError as error:
                raise ModelError(f"{model.name}: {error}") from error
        try:
            return Placement.of(with_shared_sites(models, adapter))
        except ModelError as error:
            raise ModelError(
                f"{error} (for an alignment by itself: modules and num_blocks, as in "
                "--set modules=[o_proj,down_proj])"
            ) from error
