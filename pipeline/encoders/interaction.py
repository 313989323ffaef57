"""Embeddings and an MLP beside a product: larger than two towers, and free to mix user and item."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from pipeline.encoders.two_tower import LONGER_LISTS, Tower, check_rooms, existing_only
from pipeline.project.class_spec import Count


@final
class InteractionEncoder(nn.Module):
    """`[u * v, MLP(u, v, u * v)]`, as NeuMF (1708.05031), for users and items of several columns.

    Inputs, user, item: as in TwoTower. dims: of u and v. width: of the MLP. -> {"trunk": (B, dims + width, L)}.
    """

    free_axes = LONGER_LISTS

    def __init__(self, *, user: list[int], item: list[int], dims: Count, width: Count, dropout: float = 0.0):
        super().__init__()
        self.user, self.item = Tower(user, dims, dropout), Tower(item, dims, dropout)
        self.mlp = nn.Sequential(
            nn.Linear(3 * dims, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout)
        )

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        v_BLD = self.item(inputs["item"])
        u_BLD = self.user(inputs["user"])[:, None].expand_as(v_BLD)
        product = u_BLD * v_BLD
        mixed = self.mlp(torch.cat([u_BLD, v_BLD, product], 2))
        return {"trunk": existing_only(torch.cat([product, mixed], 2), inputs)}

    def check_inputs(self, about: Mapping[str, Mapping[str, Any]]) -> None:
        check_rooms({"user": self.user, "item": self.item}, about)
