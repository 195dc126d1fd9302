"""Define the settings of an alignment that is made outside of a federation."""

from __future__ import annotations

from pydantic import Field

from fedmosaic.adapters.placement import BlockRule, Placement
from fedmosaic.config import AlignmentSettings
from fedmosaic.models.roles import PROJECTIONS


class StandaloneSettings(AlignmentSettings):
    """Set an alignment and the placement of the shared adapters together.

    In a federation the placement is that of its adapters (``adapter:`` in a scenario).
    """

    r: int = Field(default=16, ge=1)
    """Rank of A and B."""

    num_blocks: int = Field(default=4, ge=1)
    """N_B, the number of blocks; A and B are computed for the last layer of each."""

    modules: tuple[str, ...] = Field(default=PROJECTIONS, min_length=1)
    """Names of the modules with A and B. Default: the seven projections of a decoder layer."""

    block_rule: BlockRule = "depth"
    """Rule that chooses the last layers of blocks: ``depth``, ``even`` or ``cka``."""

    @property
    def alignment(self) -> AlignmentSettings:
        """Return the settings of the alignment alone."""
        own = {name: getattr(self, name) for name in AlignmentSettings.model_fields}
        return AlignmentSettings.model_construct(**own)

    @property
    def placement(self) -> Placement:
        """Return the placement alone."""
        return Placement(self.r, self.num_blocks, self.modules, self.block_rule)
