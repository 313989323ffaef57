"""Any text model of Hugging Face."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from pipeline.encoders.pretrained import fetched, from_config, load_pretrained
from pipeline.encoders.tapped import Size, TappedEncoder
from pipeline.encoders.text import free_axes, on_words, tokens_of, until_all_ended
from pipeline.project.class_spec import ClassSpec
from pipeline.sources.text.vocabulary import about_tokenizer, own_ids, read_tokenizer
from pipeline.tasks.task import Task


@final
class HuggingFaceText(TappedEncoder):
    """inputs["tokens_<input>"] (B, T), ids of the model's own tokenizer -> {tap: (B, D, T)}, or by words (B, D, L).

    input: the side of a row that is read, say "first"; words_<input> and mask: see `on_words`. padding: the token after the
    end of a row, which is masked. tokenizer: what `about_tokenizer` says of the one beside the weights, as `recorded` has it;
    stores may number its tokens differently (`own_ids`). The rest: see HuggingFace.
    """

    own: Tensor  # (N,)

    def __init__(
        self,
        *,
        input: str,
        taps: Iterable[str] = (),
        pretrained: str | None = None,
        config: dict[str, Any] | None = None,
        architecture: str | None = None,
        padding: int = 0,
        tokenizer: dict[str, Any] | None = None,
        to_logits: dict[str, ClassSpec] | None = None,
        tasks: dict[str, Task] | None = None,
    ):
        if config is None:
            module, config = load_pretrained(pretrained, architecture)
            file = fetched(pretrained, "tokenizer.json") if pretrained else None
            tokenizer = about_tokenizer(read_tokenizer(file)) if file else None
        else:
            module = from_config(config, architecture)
        super().__init__(module, taps, None, to_logits or {}, tasks or {})
        if "attention_mask" not in inspect.signature(module.forward).parameters:
            raise ValueError(
                f"{type(module).__name__} takes no attention_mask: padding would change its features of a row's words"
            )
        embeddings = embeddings_of(module)
        self.input, self.padding, self.vocabulary = input, padding, embeddings.num_embeddings
        self.pretrained, self.tokenizer = pretrained, tokenizer
        token_ids = torch.arange(self.vocabulary + 1)  # the tokenizer's, by number in a store; one more if it has no padding
        if tokenizer:
            for number, token in own_ids(tokenizer).items():
                token_ids[number] = token
        self.register_buffer("own", token_ids, persistent=False)  # goes to a GPU once, with the weights
        self.longest = longest_of(module)
        self.free_axes = free_axes(input, self.longest)
        self.filler = getattr(module.config, "pad_token_id", None) or 0
        self.recorded = {"config": config, "tokenizer": tokenizer}

    def check_inputs(self, about: Mapping[str, Mapping[str, Any]]) -> None:
        """Raises ValueError if tokens are not those of the tokenizer beside the weights, or too many for the model in a row.

        about: {input: attributes of its field}.
        """
        name = f"tokens_{self.input}"
        self.check_length(about.get(name, {}).get("longest", 0))
        model_tokenizer, store_tokenizer = self.tokenizer or {}, about.get(name, {}).get("tokenizer") or {}
        if not self.pretrained or model_tokenizer.get("digest") == store_tokenizer.get("digest"):
            return
        if not model_tokenizer:
            raise ValueError(
                f"{self.pretrained}: no tokenizer.json, so inputs/{name} may mean other words; write it there "
                "(`AutoTokenizer.from_pretrained(...).save_pretrained(folder)`), and give prepare.source that `tokenizer`"
            )
        raise ValueError(
            f"{self.pretrained}: inputs/{name} are not tokens of its tokenizer, and would mean other words; give "
            "prepare.source, in place of `vocabulary`, `tokenizer`: the folder with its tokenizer.json"
        )

    def check_length(self, tokens: int) -> None:
        if self.longest and tokens > self.longest:
            raise ValueError(f"a row has {tokens} tokens, the model reads {self.longest}; lower the source's longest")

    def call(self, inputs: dict[str, Tensor]) -> tuple[Any, Size]:
        tokens_BT = tokens_of(inputs, self.input, self.vocabulary if self.tokenizer is None else len(self.own))
        self.check_length(tokens_BT.shape[1])
        if f"words_{self.input}" in inputs and not self.to_logits:  # words are gathered by place, which needs no padding
            tokens_BT = until_all_ended(tokens_BT, self.padding)
        exist_BT = tokens_BT != self.padding
        tokens_BT = torch.where(exist_BT, self.own[tokens_BT], self.filler)
        exist_BT[:, 0] = True  # a row without tokens would attend to nothing
        return self.module(input_ids=tokens_BT, attention_mask=exist_BT.long()), tuple(tokens_BT.shape[1:])

    def view(self, inputs: dict[str, Tensor]) -> Size:
        return tuple(inputs[f"tokens_{self.input}"].shape[1:])

    def placed(self, x: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        if x.dim() != 3 or f"words_{self.input}" not in inputs:
            return x
        return on_words(x.transpose(1, 2), inputs, self.input)


def embeddings_of(module: Any) -> nn.Embedding:
    """The embeddings of a model's tokens. Raises ValueError if it has none."""
    try:
        return module.get_input_embeddings()
    except NotImplementedError:
        raise ValueError(f"{type(module).__name__} has no embeddings of tokens") from None


def longest_of(module: Any) -> int | None:
    """The most tokens in a row; None: any number. Models like RoBERTa count positions from after that of padding."""
    most = getattr(module.config, "max_position_embeddings", None)
    embeddings = [part for name, part in module.named_modules() if name.endswith("position_embeddings")]
    first = next((part.padding_idx + 1 for part in embeddings if getattr(part, "padding_idx", None) is not None), 0)
    return most - first if most and most > first else None
