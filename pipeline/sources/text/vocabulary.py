"""Vocabularies of words: learned from rows, or taken from someone else's model."""

import hashlib
import json
from pathlib import Path
from typing import Any, final

import numpy as np
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace, Sequence, Split
from tokenizers.trainers import BpeTrainer

from pipeline.sources.text.scripts import BLOCKS, joined

PAD, UNKNOWN = 0, 1  # numbers in every store, whatever a tokenizer's own are
NAMES = ("[ pad ]", "[ unk ]")  # of these: with blanks, so that no word is spelled like one
LEAST = -1e6  # log-probability of a token that occurs in no text
HYPHEN = Regex(r"(?<=\w)-(?=\w)")  # a dash that stands alone is a word
MARK = Regex(f"\u2581(?=[{BLOCKS}])")  # before a character that is a word: keeping it would make two tokens for each

Rows = list[list[str]]
Tokens = tuple[list[list[int]], list[np.ndarray]]  # each row's, and where its words begin among them


@final
class Vocabulary:
    """A byte-pair encoding (1508.07909) of at most `size` tokens, learned from rows: the same rows, the same tokens.

    A word's first token begins with a mark, except in scripts without blanks; a hyphen always cuts a word. WordPiece would
    number tokens of equal count by the order of a hash map, differently in every process.
    """

    def __init__(self, rows: Rows, size: int):
        self.tokenizer = Tokenizer(BPE(unk_token=NAMES[UNKNOWN]))
        self.tokenizer.pre_tokenizer = Sequence([Split(HYPHEN, "removed"), Metaspace(), Split(MARK, "removed")])
        room = max(0, size - len(NAMES))  # the rarest characters get no token
        trainer = BpeTrainer(vocab_size=size, limit_alphabet=room, special_tokens=list(NAMES), show_progress=False)
        self.tokenizer.train_from_iterator(map(" ".join, rows), trainer)
        self.about = about_tokenizer(self.tokenizer)

    def read(self, rows: Rows) -> Tokens:
        """Each row's tokens, and where its words begin among them."""
        encodings = self.tokenizer.encode_batch(rows, is_pretokenized=True)
        return [encoding.ids for encoding in encodings], [
            np.unique(np.array(encoding.word_ids), return_index=True)[1] for encoding in encodings
        ]


@final
class Borrowed:
    """The tokenizer of someone else's model, special tokens and all, with our numbers for its tokens: see `own_ids`.

    path: its tokenizer.json, or the folder that this is in. Raises ValueError.
    """

    def __init__(self, path: str):
        their_tokenizer = read_tokenizer(Path(path))
        self.about = about_tokenizer(their_tokenizer)
        self.tokenizer = renumbered(their_tokenizer, {token_id: number for number, token_id in own_ids(self.about).items()})
        self.tokenizer.encode_special_tokens = True  # a special token spelled out in a text is plain text

    def read(self, rows: Rows) -> Tokens:
        """Each row's tokens, and where its words begin among them; a word without tokens, where the next one does."""
        tokens, begins = [], []
        texts, starts_by_text = zip(*map(joined, rows), strict=True) if rows else ((), ())
        for words, starts, encoding in zip(rows, starts_by_text, self.tokenizer.encode_batch(texts), strict=True):
            token_positions = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
            ends = np.array([end for _, end in encoding.offsets])[token_positions]
            first_tokens = np.searchsorted(ends, starts, side="right").clip(max=len(token_positions) - 1)
            tokens.append(encoding.ids)
            begins.append(token_positions[first_tokens] if len(token_positions) else np.zeros(len(words), int))
        return tokens, begins


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, or of the folder it is in, set to neither cut nor pad. Raises ValueError."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"{file}: no such file; `AutoTokenizer.from_pretrained(...).save_pretrained(folder)` writes one")
    try:
        tokenizer = Tokenizer.from_str(file.read_text("utf-8"))
    except Exception as error:  # the library raises plain Exceptions
        raise ValueError(f"{file}: cannot be read as a tokenizer: {' '.join(str(error).split())}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def about_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """Its digest, and its own numbers for padding (if it has none, the one after its last) and unknown tokens (else None)."""
    content = json.loads(tokenizer.to_str())
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    special_ids = {
        token["content"].strip("<>[]| ").lower(): token["id"] for token in content["added_tokens"] if token["special"]
    }
    token_ids = tokenizer.get_vocab()
    padding = special_ids.get("pad", token_ids.get(NAMES[PAD], max(token_ids.values()) + 1))
    return {
        "digest": digest,
        "padding": padding,
        "unknown": special_ids.get("unk", token_ids.get(content["model"].get("unk_token"))),
    }


def own_ids(about: dict[str, Any]) -> dict[int, int]:
    """{number in our stores: the tokenizer's own}, where they differ: padding is 0, unknown 1, and tokens there before swap.

    about: see `about_tokenizer`.
    """
    special_ids = {PAD: about["padding"]} | ({} if about["unknown"] is None else {UNKNOWN: about["unknown"]})
    their_ids = {number: number for number in (*special_ids, *special_ids.values())}
    for number, token in special_ids.items():
        holder = next(n for n, t in their_ids.items() if t == token)
        their_ids[number], their_ids[holder] = their_ids[holder], their_ids[number]
    return {number: token for number, token in their_ids.items() if number != token}


def renumbered(tokenizer: Tokenizer, our_ids: dict[int, int]) -> Tokenizer:
    """The same tokenizer with other numbers for some of its tokens. our_ids: {its number: ours}. Raises ValueError."""
    if not our_ids:
        return tokenizer
    content, token_ids = json.loads(tokenizer.to_str()), tokenizer.get_vocab()
    new_ids = {token: our_ids.get(token_id, token_id) for token, token_id in token_ids.items()}
    model = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = new_ids | ({} if PAD in new_ids.values() else {NAMES[PAD]: PAD})
    else:  # scores in the order of their tokens' numbers
        score_pairs = {token: [token, value] for token, value in model["vocab"]}
        pairs_by_id = {new_id: score_pairs.get(token, [token, LEAST]) for token, new_id in new_ids.items()}
        model["vocab"] = [pairs_by_id.get(new_id, [NAMES[PAD], LEAST]) for new_id in range(max(pairs_by_id) + 1)]
        model["unk_id"] = our_ids.get(model["unk_id"], model["unk_id"])
    for token in content["added_tokens"]:
        token["id"] = new_ids[token["content"]]
    content["post_processor"] = renumbered_in(content["post_processor"], our_ids)
    new_tokenizer = Tokenizer.from_str(json.dumps(content))
    if any(new_tokenizer.token_to_id(token) != new_id for token, new_id in new_ids.items()):
        raise ValueError("tokenizer: of a kind whose tokens cannot be renumbered; use one whose padding is 0, unknown 1")
    return new_tokenizer


def renumbered_in(part: Any, our_ids: dict[int, int]) -> Any:
    """A post-processor, or a part of one: lists called ids, and pairs (token, number) called sep and cls."""
    if isinstance(part, list):
        return [renumbered_in(item, our_ids) for item in part]
    if not isinstance(part, dict):
        return part
    new_part = {key: renumbered_in(value, our_ids) for key, value in part.items()}
    new_part |= {"ids": [our_ids.get(token_id, token_id) for token_id in part["ids"]]} if "ids" in part else {}
    return new_part | {key: [part[key][0], our_ids.get(part[key][1], part[key][1])] for key in ("sep", "cls") if key in part}
