"""Reviews made of a small grammar, in two languages word by word, with every label.

No name is in two splits, and the split "novel" has opinions in words that nothing was trained on, made of known parts.
Frozen: every figure of the example is of these reviews.
"""

from dataclasses import replace
from typing import final

import numpy as np

from pipeline.seeds import stream
from pipeline.sources.source import Split, check_sizes, where_labelled
from pipeline.sources.text.grammar import (
    ADVERBS,
    CLOSINGS,
    MENTIONS,
    NAMED,
    NOUNS,
    VERDICTS,
    SecondLanguage,
    Sentence,
    Word,
    chunks,
    names,
    opinions,
    sentence,
)
from pipeline.sources.text.vocabulary import Vocabulary
from pipeline.sources.text.words import (
    WordSource,
    about_tokens,
    as_arrays,
    ids_of,
    padded,
    tags_of,
    with_longest,
)

SIDES = ("first", "second")
TASKS = ("topic", "sentiment", "entities")
UNSEEN = ("intent", "stars")
KINDS = {"P": "PER", "L": "LOC", "O": "ORG"}
TAGS = tags_of(list(KINDS.values()))
NAMES = {"transfer": 400, "val": 100, "few": 100, "test": 200}  # words of names, of every kind
MENTION = 0.8  # share of reviews that mention something else
TWO = 0.4  # share of names that are two words
PREVIEW = 16  # reviews of each kind

Rows = list[tuple[Sentence, dict[str, int]]]


@final
class Reviews(WordSource):
    """labelled: {task: reviews with that task's labels and no others}; unlabelled, val, test, unseen: reviews of each.

    vocabulary: tokens of each language, learned from the transfer set.
    """

    names = {"topic": list(NOUNS), "sentiment": ["against", "for"]}
    kinds = list(KINDS.values())

    def __init__(
        self,
        *,
        labelled: dict[str, int],
        unlabelled: int,
        val: int,
        test: int,
        unseen: int,
        vocabulary: int,
        seed: int,
    ):
        check_sizes("reviews", TASKS, labelled, {"val": val, "test": test, "unseen": unseen})
        self.labelled, self.unlabelled, self.val, self.test, self.unseen = labelled, unlabelled, val, test, unseen
        self.vocabulary, self.seed = vocabulary, seed

    def splits(self) -> dict[str, Split]:
        pools = self.name_pools()
        known_words, novel_words = opinions(novel=False), opinions(novel=True)
        transfer = self.transfer_rows()
        rows_by_split = {
            "val": self.compose("val", self.val, pools["val"], known_words),
            "test/clean": self.compose("test", self.test, pools["test"], known_words),
            "test/novel": self.compose("novel", self.test, pools["test"], novel_words),
            "unseen/train": self.compose("few", self.unseen, pools["few"], known_words),
            "unseen/test": self.compose("unseen", self.test, pools["test"], known_words),
        }
        vocabularies = self.learn(transfer)
        splits = {
            name: self.split(rows, vocabularies, TASKS + (UNSEEN if name.startswith("unseen") else ()))
            for name, rows in rows_by_split.items()
        }
        return with_longest({"transfer": self.transfer(transfer, vocabularies), **splits})

    def preview(self) -> tuple[int, Split]:
        arguments = {**vars(self), "labelled": dict.fromkeys(self.labelled, PREVIEW), "unlabelled": PREVIEW}
        small_source = Reviews(**arguments)
        rows = small_source.transfer_rows()
        return sum(self.labelled.values()) + self.unlabelled, small_source.transfer(rows, small_source.learn(rows))

    def name_pools(self) -> dict[str, list[str]]:
        cuts = np.cumsum(list(NAMES.values()))[:-1]
        parts = np.split(np.array(names(stream(self.seed, "names"), sum(NAMES.values()))), cuts)
        return {name: part.tolist() for name, part in zip(NAMES, parts, strict=True)}

    def compose(self, name: str, count: int, names: list[str], words: dict[int, list[str]]) -> Rows:
        """This many reviews, no two alike."""
        rng, second = stream(self.seed, name), SecondLanguage(stream(self.seed, "second"))
        rows: dict[str, tuple[Sentence, dict[str, int]]] = {}
        while len(rows) < count:
            row = review(rng, names, words, second)
            rows[" ".join(row[0].words[0])] = row
        return list(rows.values())

    def transfer_rows(self) -> Rows:
        count = sum(self.labelled.values()) + self.unlabelled
        return self.compose("transfer", count, self.name_pools()["transfer"], opinions(novel=False))

    def learnt(self) -> Vocabulary:
        return self.learn(self.transfer_rows())[0]

    def learn(self, rows: Rows) -> list[Vocabulary]:
        return [Vocabulary([review_sentence.words[side] for review_sentence, _ in rows], self.vocabulary) for side in (0, 1)]

    def transfer(self, rows: Rows, vocabularies: list[Vocabulary]) -> Split:
        """Each review has the label of at most one task."""
        task_names = stream(self.seed, "order").permutation(
            np.repeat([*self.labelled, ""], [*self.labelled.values(), self.unlabelled])
        )
        split = self.split(rows, vocabularies, tuple(self.labelled))
        flags = {task: task_names == task for task in self.labelled}
        labels = {task: where_labelled(np.asarray(split.labels[task]), flag, -1) for task, flag in flags.items()}
        return replace(split, labels=labels, labelled=flags)

    def split(self, rows: Rows, vocabularies: list[Vocabulary], labels: tuple[str, ...]) -> Split:
        """A split that carries all of these labels on every row."""
        rows_by_side = {
            side: [review_sentence.words[number] for review_sentence, _ in rows] for number, side in enumerate(SIDES)
        }
        partners = {SIDES[1]: [review_sentence.partner for review_sentence, _ in rows]}
        vocabulary_by_side = dict(zip(SIDES, vocabularies, strict=True))
        inputs = as_arrays(rows_by_side, partners, vocabulary_by_side)
        labels_by_name = {name: np.array([numbers[name] for _, numbers in rows]) for name in rows[0][1]}
        tags = padded([[TAGS.index(tag) for tag in review_sentence.tags] for review_sentence, _ in rows], -1, np.int64)
        labels_by_name["entities"] = np.where(inputs["mask"], tags, -1)  # words without a partner are never part of a name
        flags = {name: np.ones(len(rows), bool) for name in labels}
        view = np.zeros(len(rows), np.int32)
        return Split(
            inputs,
            {name: labels_by_name[name] for name in labels},
            flags,
            view,
            ids_of(rows_by_side),
            about_tokens(vocabulary_by_side),
        )


def review(
    rng: np.random.Generator, names: list[str], words: dict[int, list[str]], second: SecondLanguage
) -> tuple[Sentence, dict[str, int]]:
    """One review, and its labels that are single numbers. names: words that names are made of. words: see `opinions`."""

    def slots(noun: str, polarity: int, strong: bool) -> dict[str, list[Word]]:
        words_by_slot = {"N": [(noun, "O")], "A": [(pick(rng, ADVERBS[strong]), "O"), (pick(rng, words[polarity]), "O")]}
        for slot, kind in KINDS.items():
            word_count = 1 + (rng.random() < TWO)
            words_by_slot[slot] = [(pick(rng, names), f"{'I' if n else 'B'}-{kind}") for n in range(word_count)]
        return words_by_slot

    topic, other_topic = rng.permutation(len(NOUNS))[:2]
    nouns, (sentiment, strong) = list(NOUNS.values()), rng.integers(0, 2, 2)
    verdict, is_straight = VERDICTS[rng.integers(len(VERDICTS))]
    clauses = [chunks(verdict, slots(pick(rng, nouns[topic]), sentiment if is_straight else 1 - sentiment, bool(strong)))]
    if rng.random() < MENTION:
        clauses.append(
            chunks(pick(rng, MENTIONS), slots(pick(rng, nouns[other_topic]), int(rng.integers(2)), rng.random() < 0.5))
        )
    intent = rng.integers(len(CLOSINGS))
    closing_clauses = [chunks(pick(rng, NAMED), slots("", 0, True)), chunks(pick(rng, list(CLOSINGS.values())[intent]), {})]
    review_sentence = sentence([part[n] for part in (clauses, closing_clauses) for n in rng.permutation(len(part))], second)
    stars = sentiment * (2 + strong) + (1 - sentiment) * (1 - strong)  # 0 strongly against, 1 mildly; 2 mildly for, 3 strongly
    return review_sentence, {"topic": int(topic), "sentiment": int(sentiment), "intent": int(intent), "stars": int(stars)}


def pick(rng: np.random.Generator, choices: list[str]) -> str:
    return choices[rng.integers(len(choices))]
