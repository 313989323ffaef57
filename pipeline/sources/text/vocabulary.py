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
        read = self.tokenizer.encode_batch(rows, is_pretokenized=True)
        return [row.ids for row in read], [np.unique(np.array(row.word_ids), return_index=True)[1] for row in read]


@final
class Borrowed:
    """The tokenizer of someone else's model, special tokens and all, with our numbers for its tokens: see `own_ids`.

    place: its tokenizer.json, or the folder that this is in. Raises ValueError.
    """

    def __init__(self, place: str):
        theirs = read_tokenizer(Path(place))
        self.about = about_tokenizer(theirs)
        self.tokenizer = renumbered(theirs, {own: number for number, own in own_ids(self.about).items()})
        self.tokenizer.encode_special_tokens = True  # a special token spelled out in a text is plain text

    def read(self, rows: Rows) -> Tokens:
        """Each row's tokens, and where its words begin among them; a word without tokens, where the next one does."""
        tokens, begins = [], []
        texts, begun = zip(*map(joined, rows), strict=True) if rows else ((), ())
        for words, starts, read in zip(rows, begun, self.tokenizer.encode_batch(texts), strict=True):
            places = np.flatnonzero(np.array(read.special_tokens_mask) == 0)
            ends = np.array([end for _, end in read.offsets])[places]
            found = np.searchsorted(ends, starts, side="right").clip(max=len(places) - 1)
            tokens.append(read.ids)
            begins.append(places[found] if len(places) else np.zeros(len(words), int))
        return tokens, begins


def read_tokenizer(place: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, or of the folder it is in, set to neither cut nor pad. Raises ValueError."""
    file = place / "tokenizer.json" if place.is_dir() else place
    if not file.is_file():
        raise ValueError(f"{file}: no such file; `AutoTokenizer.from_pretrained(...).save_pretrained(folder)` writes one")
    try:
        found = Tokenizer.from_str(file.read_text("utf-8"))
    except Exception as error:  # the library raises plain Exceptions
        raise ValueError(f"{file}: cannot be read as a tokenizer: {' '.join(str(error).split())}") from None
    found.no_truncation()
    found.no_padding()
    return found


def about_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """Its digest, and its own numbers for padding (if it has none, the one after its last) and unknown tokens (else None)."""
    content = json.loads(tokenizer.to_str())
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    special = {token["content"].strip("<>[]| ").lower(): token["id"] for token in content["added_tokens"] if token["special"]}
    known = tokenizer.get_vocab()
    padding = special.get("pad", known.get(NAMES[PAD], max(known.values()) + 1))
    return {"digest": digest, "padding": padding, "unknown": special.get("unk", known.get(content["model"].get("unk_token")))}


def own_ids(about: dict[str, Any]) -> dict[int, int]:
    """{number in our stores: the tokenizer's own}, where they differ: padding is 0, unknown 1, and tokens there before swap.

    about: see `about_tokenizer`.
    """
    wanted = {PAD: about["padding"]} | ({} if about["unknown"] is None else {UNKNOWN: about["unknown"]})
    own = {number: number for number in (*wanted, *wanted.values())}
    for number, token in wanted.items():
        now = next(n for n, t in own.items() if t == token)
        own[number], own[now] = own[now], own[number]
    return {number: token for number, token in own.items() if number != token}


def renumbered(tokenizer: Tokenizer, number: dict[int, int]) -> Tokenizer:
    """The same tokenizer with other numbers for some of its tokens. number: {its: ours}. Raises ValueError."""
    if not number:
        return tokenizer
    content, known = json.loads(tokenizer.to_str()), tokenizer.get_vocab()
    wanted = {token: number.get(own, own) for token, own in known.items()}
    model = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = wanted | ({} if PAD in wanted.values() else {NAMES[PAD]: PAD})
    else:  # scores in the order of their tokens' numbers
        score = {token: [token, value] for token, value in model["vocab"]}
        placed = {place: score.get(token, [token, LEAST]) for token, place in wanted.items()}
        model["vocab"] = [placed.get(place, [NAMES[PAD], LEAST]) for place in range(max(placed) + 1)]
        model["unk_id"] = number.get(model["unk_id"], model["unk_id"])
    for token in content["added_tokens"]:
        token["id"] = wanted[token["content"]]
    content["post_processor"] = renumbered_in(content["post_processor"], number)
    found = Tokenizer.from_str(json.dumps(content))
    if any(found.token_to_id(token) != place for token, place in wanted.items()):
        raise ValueError("tokenizer: of a kind whose tokens cannot be renumbered; use one whose padding is 0, unknown 1")
    return found


def renumbered_in(part: Any, number: dict[int, int]) -> Any:
    """A post-processor, or a part of one: lists called ids, and pairs (token, number) called sep and cls."""
    if isinstance(part, list):
        return [renumbered_in(item, number) for item in part]
    if not isinstance(part, dict):
        return part
    found = {key: renumbered_in(value, number) for key, value in part.items()}
    found |= {"ids": [number.get(own, own) for own in part["ids"]]} if "ids" in part else {}
    return found | {key: [part[key][0], number.get(part[key][1], part[key][1])] for key in ("sep", "cls") if key in part}
