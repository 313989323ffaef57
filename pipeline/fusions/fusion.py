"""How several teachers' features become what a student learns from: the abstract fusion."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Self

from torch import Tensor

Features = dict[str, Tensor]


class Fusion(ABC):
    """scikit-learn's contract over batches of paired features {"teacher/tap": (B, D, *grid)}, all on one grid.

    Laws: row-order equivariant; finite; fitting on a stream equals fitting on its concatenation; memory independent of
    the number of rows. Targets come out standardised: mean 0, and a mean variance of 1 over the channels that vary.
    """

    @abstractmethod
    def fit(self, batches: Iterable[Features]) -> Self:
        """One pass over the transfer set."""

    @abstractmethod
    def transform(self, features: Features) -> Features:
        """{target: (B, D, *grid)}, float32."""
