"""Rows of words as arrays: tokens of a vocabulary learned from them, and where each word of a row begins among its tokens.

Features lie on a row's words, not on its tokens, so that networks with other vocabularies, or of another language, have
them at the same positions.
"""

import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import cycle
from textwrap import fill
from typing import Any
from unicodedata import east_asian_width

import numpy as np
from matplotlib import color_sequences
from matplotlib.axes import Axes

from pipeline.sources.source import Answer, Arrays, Source, Split, content_ids
from pipeline.sources.text.scripts import UNSPACED, words_in
from pipeline.sources.text.vocabulary import PAD, UNKNOWN, Borrowed, Rows, Vocabulary

DROPPED = 0.1  # share of a labelled row's tokens
LINE, LINES, WIDE = 34, 8, 56  # characters per line of a picture, its lines, characters per line below it
COLOURS = color_sequences["tab10"]


def as_arrays(
    rows_by_side: dict[str, Rows], partners: dict[str, list[list[int]]], vocabularies: Mapping[str, Vocabulary | Borrowed]
) -> Arrays:
    """Inputs of rows that are said on one side, or on several in parallel.

    rows_by_side: {side: words of each row}; the first side's words are the positions of the grid. partners: {other side: for
    each of those words the position of its partner, or -1}. Returns "tokens_<side>" (N, T), padded with 0; "words_<side>"
    (N, L), the token at which each position's word begins; "text_<side>" (N, bytes) UTF-8; "mask" (N, L): words with partners
    on all sides.
    """
    lengths = [len(row) for row in next(iter(rows_by_side.values()))]
    inputs = {"mask": np.arange(max(lengths)) < np.array(lengths)[:, None]}
    for side, rows in rows_by_side.items():
        tokens, begins = vocabularies[side].read(rows)
        positions = partners.get(side) or [list(range(length)) for length in lengths]
        inputs["mask"] &= padded(positions, -1, np.int32) >= 0
        inputs[f"tokens_{side}"] = padded(tokens, PAD, np.int32)
        inputs[f"words_{side}"] = padded(
            [begin[position] for begin, position in zip(begins, positions, strict=True)], 0, np.int32
        )
        inputs[f"text_{side}"] = padded([np.frombuffer(text, np.uint8) for text in encoded(rows)], 0, np.uint8)
    return inputs


def about_tokens(vocabularies: Mapping[str, Vocabulary | Borrowed]) -> dict[str, dict[str, Any]]:
    """What a split says of its tokens: {input: {"tokenizer": see `about_tokenizer`}}."""
    return {f"tokens_{side}": {"tokenizer": vocabulary.about} for side, vocabulary in vocabularies.items()}


def with_longest(splits: dict[str, Split]) -> dict[str, Split]:
    """Splits that say how many tokens the longest row of all has: a network without room for it is refused before training."""
    longest_rows = {name: max(split.inputs[name].shape[1] for split in splits.values()) for name in splits["transfer"].about}
    about = {name: {**about_input, "longest": longest_rows[name]} for name, about_input in splits["transfer"].about.items()}
    return {name: replace(split, about=about) for name, split in splits.items()}


def encoded(rows: Rows) -> list[bytes]:
    return [" ".join(row).encode() for row in rows]


def ids_of(rows_by_side: dict[str, Rows]) -> np.ndarray:
    """Ids (N, 16) by the words on all sides."""
    return content_ids([b"\n".join(sides) for sides in zip(*map(encoded, rows_by_side.values()), strict=True)])


def padded(rows: list[Any], value: int, dtype: Any) -> np.ndarray:
    """Rows of numbers as (N, longest)."""
    array = np.full((len(rows), max(map(len, rows))), value, dtype)
    for line, row in zip(array, rows, strict=True):
        line[: len(row)] = row
    return array


def width_of(word: str) -> int:
    """A word's width in characters; ideographs are two wide."""
    return sum(1 + (east_asian_width(character) in "WF") for character in word)


def tags_of(kinds: list[str]) -> list[str]:
    """Tags in the order of their numbers: O, then B and I of each kind."""
    return ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]


def as_bio(tags: list[str]) -> list[str]:
    """A span begins with B- even where none of its kind ends just before."""
    tags_before = ["O", *tags]
    return [
        "B" + tag[1:] if tag.startswith("I-") and tag_before[2:] != tag[2:] else tag
        for tag, tag_before in zip(tags, tags_before, strict=False)
    ]


class WordSource(Source):
    """A source of rows of words: how they are augmented, drawn, and put in words.

    names: {task: names of its classes}. kinds: of spans, each of its own colour.
    """

    cell = (3.0, 1.7)
    recalls = True  # the vocabulary is learned from the files
    names: dict[str, list[str]]
    kinds: list[str]
    longest: int | None = None  # words of a text that are read

    @abstractmethod
    def learnt(self) -> Vocabulary | Borrowed:
        """The vocabulary of the first side, learned again from the transfer set, or read again."""

    def read(self, given: str) -> Iterable[tuple[str, Arrays]]:
        """A line of text, on the first side alone."""
        if os.path.isfile(given):  # of a long text, Path's own fails
            raise ValueError(f"{given}: is a file; give a line of text, or `xargs -d '\\n' -n 1` to take those of a file")
        words = self.words_of(given)[: self.longest]
        if not words:
            raise ValueError("expected a line of text, found none")
        inputs = as_arrays({"first": [words]}, {}, {"first": self.learnt()})
        return [("", {name: array[0] for name, array in inputs.items()})]

    def words_of(self, line: str) -> list[str]:
        return words_in(line)

    def inputs_in_words(self) -> str:
        return (
            "tokens_first: of the words of a text, by tokenizer.json, 0 after them; words_first: where among the tokens each "
            "word begins; mask: which words there are"
        )

    def beside(self) -> dict[str, str]:
        """The tokenizer of the first side, with the numbers that networks take."""
        return {"tokenizer.json": self.learnt().tokenizer.to_str(pretty=True)}

    def augment(self, rng: np.random.Generator, inputs: Arrays, labels: Arrays) -> tuple[Arrays, Arrays]:
        """A share of the tokens of every side become unknown."""
        dropped = dict(inputs)
        for name, tokens in inputs.items():
            if name.startswith("tokens_"):
                is_dropped = (rng.random(tokens.shape) < DROPPED) & (tokens != PAD)
                dropped[name] = np.where(is_dropped, np.array(UNKNOWN, tokens.dtype), tokens)
        return dropped, labels

    def words(self, inputs: Arrays, answer: Answer) -> str:
        return "; ".join(f"{task}: {self.said(task, inputs, answer)}" for task in answer)

    def said(self, task: str, inputs: Arrays, answer: Answer) -> str:
        """A task's answer: its classes by name, or the first side's words with their tags."""
        if "tags" in answer[task]:
            return " ".join(f"{word}/{tag[2:]}" if tag[2:] else word for word, tag in self.tagged(inputs, answer))
        return ", ".join(self.names[task][kind] for kind in answer[task].get("classes", [])) or "none"

    def draw(self, axis: Axes, inputs: Arrays, answer: Answer) -> None:
        """The first side's words, tagged ones highlighted and those that no network reads in grey; classes below."""
        line, column = 0, 0
        colours = dict(zip(self.kinds, cycle(COLOURS), strict=False))
        for (word, tag), is_read in zip(self.tagged(inputs, answer), inputs["mask"], strict=False):
            if column + width_of(word) > LINE:
                line, column = line + 1, 0
            if line == LINES:
                axis.text(0.98, 0.02, "…", fontsize=6.5, ha="right", va="bottom")
                break
            colour = colours.get(tag[2:]) if is_read else None
            box = {"facecolor": colour, "pad": 0.6, "lw": 0} if colour else None
            shade = "white" if colour else "black" if is_read else "grey"
            x, y = 0.02 + 0.96 * column / LINE, 0.9 - 0.12 * line
            axis.text(x, y, word, fontsize=6.5, family="monospace", va="baseline", color=shade, bbox=box)
            column += width_of(word) + (not UNSPACED.match(word))
        classes = "; ".join(f"{task}: {self.said(task, inputs, answer)}" for task in answer if "classes" in answer[task])
        axis.set_xlabel(fill(classes, WIDE), fontsize=7, labelpad=2)

    def tagged(self, inputs: Arrays, answer: Answer) -> list[tuple[str, str]]:
        """The first side's words, each with its tag, or ""."""
        words = (
            next(text for name, text in inputs.items() if name.startswith("text_")).tobytes().rstrip(b"\0").decode().split(" ")
        )
        tags: list[str] = next((task_answer["tags"] for task_answer in answer.values() if "tags" in task_answer), [])
        return list(zip(words, [*tags, *[""] * len(words)], strict=False))
