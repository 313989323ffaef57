"""What is popular: the baseline that knows nobody."""

from collections.abc import Mapping
from typing import Any, final

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.encoders.two_tower import LONGER_LISTS, existing_only
from pipeline.project.class_spec import Count


@final
class Popularity(nn.Module):
    """inputs["item"][:, column] (B, L), whole numbers below `buckets` -> {"trunk": (B, buckets, L)}, one-hot: nothing to learn.

    Numbers beyond the last bucket count as in it.
    """

    free_axes = LONGER_LISTS

    def __init__(self, *, buckets: Count, column: int = 1):
        super().__init__()
        self.buckets, self.column = buckets, column

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        bucket = inputs["item"][:, self.column].long().clamp(max=self.buckets - 1)
        return {"trunk": existing_only(F.one_hot(bucket, self.buckets).float(), inputs)}

    def check_inputs(self, about: Mapping[str, Mapping[str, Any]]) -> None:
        """Raises ValueError if the last bucket would be a mixture. about: {input: attributes of its field}."""
        store_buckets = about["item"]["sizes"][self.column] if "sizes" in about.get("item", {}) else 0
        if self.buckets < store_buckets:
            problem = f"buckets: {self.buckets}: fewer than the store's, the last would be a mixture"
            raise ValueError(f"{problem}; give buckets: {store_buckets}")
