"""Any text model of Hugging Face."""

from collections.abc import Iterable
from typing import Any, final

from torch import Tensor

from pipeline.class_spec import ClassSpec
from pipeline.encoders.pretrained import from_config, load_pretrained
from pipeline.encoders.tapped import Size, TappedEncoder
from pipeline.encoders.text import on_words, tokens_of
from pipeline.tasks.task import Task


@final
class HuggingFaceText(TappedEncoder):
    """inputs["tokens_<input>"] (B, T), ids of the model's own tokenizer -> {tap: (B, D, T)}, or on words (B, D, L).

    input: the side of a row that is read, say "first"; words_<input> and mask: see `on_words`. padding: the token where a row
    has ended, which is not looked at. The rest: see HuggingFace.
    """

    def __init__(
        self,
        *,
        input: str,
        taps: Iterable[str] = (),
        pretrained: str | None = None,
        config: dict[str, Any] | None = None,
        architecture: str | None = None,
        padding: int = 0,
        to_logits: dict[str, ClassSpec] | None = None,
        tasks: dict[str, Task] | None = None,
    ):
        if config is None:
            module, config = load_pretrained(pretrained, architecture)
        else:
            module = from_config(config, architecture)
        super().__init__(module, taps, None, to_logits or {}, tasks or {})
        embeddings: Any = module.get_input_embeddings()  # type: ignore[operator]
        self.input, self.padding, self.vocabulary = input, padding, embeddings.num_embeddings
        self.recorded = {"config": config}

    def call(self, inputs: dict[str, Tensor]) -> tuple[Any, Size]:
        tokens_BT = tokens_of(inputs, self.input, self.vocabulary)
        exist_BT = (tokens_BT != self.padding).long()
        exist_BT[:, 0] = 1  # a row of none would attend to nothing
        return self.module(input_ids=tokens_BT, attention_mask=exist_BT), tuple(tokens_BT.shape[1:])

    def view(self, inputs: dict[str, Tensor]) -> Size:
        return tuple(inputs[f"tokens_{self.input}"].shape[1:])

    def placed(self, x: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        if x.dim() != 3 or f"words_{self.input}" not in inputs:
            return x
        return on_words(x.transpose(1, 2), inputs, self.input)
