"""Transformer encoders of words."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.compiler import is_exporting
from transformers import ModernBertConfig, ModernBertModel

from pipeline.project.class_spec import Count


@final
class TextEncoder(nn.Module):
    """An untrained ModernBERT (2412.13663) that reads one side of a row: -> {"words": (B, width, L)}.

    Takes inputs["tokens_<input>"] (B, T), 0 where a row has ended, and what `on_words` takes. input: the side, say "first".
    vocabulary: how many tokens there are. longest: the most tokens in a row.
    """

    def __init__(
        self,
        *,
        input: str,
        vocabulary: Count,
        width: Count,
        layers: Count,
        heads: Count,
        longest: Count = 128,
        dropout: float = 0.1,
    ):
        super().__init__()
        config = ModernBertConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=2 * width,
            max_position_embeddings=longest,
            layer_types=["full_attention"] * layers,
            embedding_dropout=dropout,
            mlp_dropout=dropout,
            attention_dropout=dropout,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=None,
            cls_token_id=None,
            sep_token_id=None,
        )
        self.input, self.vocabulary, self.longest = input, vocabulary, longest
        self.free_axes = free_axes(input, longest)
        self.transformer = ModernBertModel(config)

    def check_inputs(self, about: Mapping[str, Mapping[str, Any]]) -> None:
        """Raises ValueError if a row has more tokens than there is room for. about: {input: attributes of its field}."""
        most = about.get(f"tokens_{self.input}", {}).get("longest", 0)
        if most > self.longest:
            raise ValueError(f"longest: {self.longest}, but a row has {most} tokens; raise it to that")

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        tokens = tokens_of(inputs, self.input, self.vocabulary)
        tokens = until_all_ended(tokens, padding=0)
        if tokens.shape[1] > self.longest:
            raise ValueError(f"longest: {self.longest}, but a row has {tokens.shape[1]} tokens; raise it to that")
        x_BTD = self.transformer(tokens, attention_mask=tokens != 0).last_hidden_state
        return {"words": on_words(x_BTD, inputs, self.input)}


def free_axes(side: str, longest: int | None = None) -> dict[str, dict[int, tuple[str, int | None]]]:
    """{input: {axis: (name, most)}} of axes of any size: rows may have more or fewer tokens and words than those stored."""
    return {f"tokens_{side}": {1: ("tokens", longest)}, f"words_{side}": {1: ("words", None)}, "mask": {1: ("words", None)}}


def tokens_of(inputs: dict[str, Tensor], side: str, vocabulary: int) -> Tensor:
    """The tokens of a side, (B, T) int64. Raises ValueError if there is no such side, or a token beyond the vocabulary."""
    if f"tokens_{side}" not in inputs:
        sides = ", ".join(name.removeprefix("tokens_") for name in inputs if name.startswith("tokens_"))
        raise ValueError(f"input: no side {side!r} in these rows; there are {sides}")
    tokens = inputs[f"tokens_{side}"].long()
    if not is_exporting() and tokens.max() >= vocabulary:
        raise ValueError(f"vocabulary: {vocabulary}, but there is a token {tokens.max()}; raise it above that")
    return tokens


def until_all_ended(tokens_BT: Tensor, padding: int) -> Tensor:
    """Without the last columns, if padding in every row; an exported graph keeps them: it cannot look at its rows."""
    if is_exporting():
        return tokens_BT
    ends = torch.arange(1, tokens_BT.shape[1] + 1, device=tokens_BT.device)
    return tokens_BT[:, : ((tokens_BT != padding).any(0) * ends).max().clamp(min=1)]


def on_words(x_BTD: Tensor, inputs: dict[str, Tensor], side: str) -> Tensor:
    """Features of tokens -> of words, (B, D, L): a word's feature is that of its first token.

    Takes inputs["words_<side>"] (B, L), the token of the side at which each word begins, and inputs["mask"] (B, L), which words
    exist. Those that do not exist get the mean of those that do, so that a mean over the grid is one over words.
    """
    begins, exists = inputs[f"words_{side}"].long(), inputs["mask"][:, :, None]
    x_BLD = x_BTD.gather(1, begins[:, :, None].expand(-1, -1, x_BTD.shape[2]))
    mean = torch.where(exists, x_BLD, 0).sum(1, keepdim=True) / exists.sum(1, keepdim=True).clamp(min=1)
    return torch.where(exists, x_BLD, mean).transpose(1, 2)
