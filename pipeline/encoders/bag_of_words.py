"""A baseline that reads words without their order."""

from typing import final

import torch
from torch import Tensor, nn

from pipeline.encoders.text import free_axes, on_words, tokens_of
from pipeline.project.class_spec import Count

STD = 0.05  # torch's 1 is noise that rare words keep for thousands of updates


@final
class BagOfWords(nn.Module):
    """One vector per token and nothing else: arguments and inputs as in `TextEncoder`, -> {"words": (B, width, L)}."""

    def __init__(self, *, input: str, vocabulary: Count, width: Count):
        super().__init__()
        self.input, self.vocabulary, self.free_axes = input, vocabulary, free_axes(input)
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        with torch.no_grad():
            self.embedding.weight.mul_(STD)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        tokens = tokens_of(inputs, self.input, self.vocabulary)
        return {"words": on_words(self.embedding(tokens), inputs, self.input)}
