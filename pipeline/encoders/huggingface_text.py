"""Any text model of Hugging Face."""

from collections.abc import Iterable
from typing import Any, final

from torch import Tensor

from pipeline.encoders.pretrained import from_config, load_pretrained
from pipeline.encoders.tapped import Size, TappedEncoder
from pipeline.params import ClassSpec
from pipeline.tasks.task import Task


@final
class HuggingFaceText(TappedEncoder):
    """inputs[input] (B, L) ids of tokens -> {tap: (B, D, L)}. The ids are those of the model's own tokenizer.

    mask: the input (B, L) bool that says which tokens exist, if there is one. The rest: see HuggingFace.
    """

    def __init__(
        self,
        *,
        taps: Iterable[str] = (),
        pretrained: str | None = None,
        config: dict[str, Any] | None = None,
        architecture: str | None = None,
        input: str = "tokens",
        mask: str = "mask",
        to_logits: dict[str, ClassSpec] | None = None,
        tasks: dict[str, Task] | None = None,
    ):
        if config is None:
            module, config = load_pretrained(pretrained, architecture)
        else:
            module = from_config(config, architecture)
        super().__init__(module, taps, None, to_logits or {}, tasks or {})
        self.input, self.mask, self.vocabulary = input, mask, config["vocab_size"]
        self.recorded = {"config": config}

    def call(self, inputs: dict[str, Tensor]) -> tuple[Any, Size]:
        tokens_BL = inputs[self.input].long()
        if tokens_BL.max() >= self.vocabulary:
            raise ValueError(f"token {int(tokens_BL.max())}, and the model knows {self.vocabulary}: is it another's tokenizer?")
        mask = {"attention_mask": inputs[self.mask].long()} if self.mask in inputs else {}
        return self.module(input_ids=tokens_BL, **mask), tuple(tokens_BL.shape[1:])

    def view(self, inputs: dict[str, Tensor]) -> Size:
        return tuple(inputs[self.input].shape[1:])
