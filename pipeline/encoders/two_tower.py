"""Two towers that meet only in a product: items' vectors can be computed once, and served from an index."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from pipeline.project.class_spec import Count

LONGER_LISTS = {"item": {2: ("candidates", None)}, "mask": {1: ("candidates", None)}}  # than in training: a whole catalogue


class Tower(nn.Module):
    """The sum of a row's columns, each an embedding: (B, columns, ...) whole numbers -> (B, ..., width), of variance 1.

    sizes: how many values each column has, 0 for unknown among them; values beyond count as unknown. dropout: of a value's
    embedding, number by number.
    """

    def __init__(self, sizes: list[int], width: int, dropout: float):
        super().__init__()
        tables = [nn.Embedding(size, width) for size in sizes]
        for table in tables:
            nn.init.normal_(table.weight, std=len(sizes) ** -0.5)
        self.sizes, self.tables, self.dropout = sizes, nn.ModuleList(tables), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != len(self.sizes):
            raise ValueError(f"rows have {x.shape[1]} columns, but the encoder has sizes of {len(self.sizes)}")
        columns = zip(self.sizes, self.tables, x.unbind(1), strict=True)
        return torch.stack([self.dropout(table(v.where(v < size, 0))) for size, table, v in columns]).sum(0)


@final
class TwoTower(nn.Module):
    """`u * v` of a user's and an item's vector, and a quarter as many numbers of each alone: with a linear head this is a
    factorisation machine (Rendle, ICDM 2010) without the products within either side.

    inputs["user"] (B, columns), ["item"] (B, columns, L) and, where lists are of different lengths, ["mask"] (B, L) ->
    {"trunk": (B, 3/2 width, L)}. user, item: sizes of their columns. width: of a vector.
    """

    free_axes = LONGER_LISTS

    def __init__(self, *, user: list[int], item: list[int], width: Count, dropout: float = 0.0):
        super().__init__()
        self.width, self.own = width, width // 4
        self.user, self.item = (Tower(sizes, width + self.own, dropout) for sizes in (user, item))

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        v_BLD = self.item(inputs["item"])
        u_BLD = self.user(inputs["user"])[:, None].expand_as(v_BLD)
        (u, own_u), (v, own_v) = (x.split([self.width, self.own], 2) for x in (u_BLD, v_BLD))
        return {"trunk": existing_only(torch.cat([u * v, own_u, own_v], 2), inputs)}

    def check_inputs(self, about: Mapping[str, Mapping[str, Any]]) -> None:
        check_rooms({"user": self.user, "item": self.item}, about)


def check_rooms(towers: dict[str, Tower], about: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError if towers lack vectors for values of their columns, which would all count as unknown.

    about: {input: attributes of its field}, whose "sizes" are those to have.
    """
    needed_sizes = {side: about[side]["sizes"] for side in towers if "sizes" in about.get(side, {})}
    small_sides = [side for side, sizes in needed_sizes.items() if not hold(towers[side].sizes, sizes)]
    if small_sides:
        have = ", ".join(f"{side}: {towers[side].sizes}" for side in small_sides)
        give = ", ".join(f"{side}: {needed_sizes[side]}" for side in small_sides)
        raise ValueError(f"{have}: smaller than what the store's columns hold; give {give}")


def hold(rooms: list[int], sizes: list[int]) -> bool:
    return len(rooms) == len(sizes) and all(room >= size for room, size in zip(rooms, sizes, strict=True))


def existing_only(feature_BLD: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """(B, L, D) -> (B, D, L), zero where there is no candidate, which is how heads know."""
    feature_BDL = feature_BLD.transpose(1, 2)
    return feature_BDL * inputs["mask"][:, None] if "mask" in inputs else feature_BDL
