"""Your own text: CSV, JSONL, Parquet and CoNLL files, each row with the labels that it has."""

import re
from functools import cached_property, partial
from typing import final

import numpy as np

from pipeline.project.class_spec import Count, near
from pipeline.sources.bad import report_bad
from pipeline.sources.source import NEEDED, UNSEEN, Split
from pipeline.sources.splits import drawn
from pipeline.sources.text.records import Record, columns_of, read_records
from pipeline.sources.text.scripts import marks_apart, words_in
from pipeline.sources.text.vocabulary import Borrowed, Vocabulary
from pipeline.sources.text.words import WordSource, about_tokens, as_arrays, ids_of, padded, tags_of, with_longest


@final
class TextFiles(WordSource):
    """files: {split: paths}: transfer, val, test/clean, other test/<name>, unseen/train and unseen/test; by their ending:
    .csv, .tsv, .jsonl, .parquet, .conll. Where val or test/clean have no files, `val` and `test` are the shares of transfer's
    labelled texts that go there, by the hash of a text. A text that occurs twice in a split is one row with the labels of
    both. In every split but those of unseen tasks some row has a label of each task.

    text: the column of the text, which is cut into words (`words_in`), or in JSONL and Parquet a list of words. classes:
    {label: its classes}, a column each; where it is empty the row has no such label. Labels that are no task are unseen.
    tags: {task: kinds of spans}, at most one: the last column of CoNLL files, else a column of tags, one per word. columns:
    {label: its column}, if it has another name. longest: only this many words of a text are read; a row whose words are
    absurdly long is refused. vocabulary: how many tokens, learned from the transfer set; or in its place tokenizer: that of a
    model of Hugging Face, its folder or its tokenizer.json, with its special tokens; see `own_ids` for its numbers. skip_bad:
    go on without rows that cannot be used, whose label differs from that of the same text before, or whose text is in an
    earlier split, and list them.
    """

    def __init__(
        self,
        *,
        files: dict[str, list[str]],
        text: str = "text",
        classes: dict[str, list[str]] | None = None,
        tags: dict[str, list[str]] | None = None,
        columns: dict[str, str] | None = None,
        longest: Count = 64,
        vocabulary: Count | None = None,
        tokenizer: str | None = None,
        val: float = 0.0,
        test: float = 0.0,
        skip_bad: bool = False,
        seed: int = 0,
    ):
        for name in files:
            if name not in UNSEEN + NEEDED and not re.fullmatch(r"test/[A-Za-z0-9_-]+", name):
                known_splits = ", ".join(NEEDED + UNSEEN)
                raise ValueError(
                    f"files.{name}: no split{near(name, NEEDED + UNSEEN)}; there are {known_splits} and test/<name>"
                )
        self.shares = {"val": val, "test/clean": test}
        for name in NEEDED:
            paths, share = files.get(name), self.shares.get(name, 0.0)
            if not paths and not share:
                advice = f", or give {name.split('/')[0]}, a share of what is labelled" if name in self.shares else ""
                raise ValueError(f"files.{name}: missing; name at least one file for it{advice}")
            if paths and share:
                raise ValueError(f"{name.split('/')[0]}: {share}, but files.{name} is given; drop one of them")
        if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
            raise ValueError(f"val: {val}, test: {test}; expected shares that leave some to learn from")
        if len(tags or {}) > 1:
            raise ValueError(f"tags: {len(tags or {})} tasks of tags, expected one")
        labels = [*(classes or {}), *(tags or {})]
        for name in columns or {}:
            if name not in labels:
                raise ValueError(f"columns.{name}: no label{near(name, labels)}; there are {', '.join(labels) or 'none'}")
        if (vocabulary is None) == (tokenizer is None):
            raise ValueError(
                "vocabulary: give it, a number of tokens, or tokenizer, a folder with a tokenizer.json: one of them"
            )
        self.files, self.text, self.names, self.tags = files, text, classes or {}, tags or {}
        self.columns = {name: (columns or {}).get(name, name) for name in labels}
        self.longest, self.vocabulary, self.tokenizer = longest, vocabulary, tokenizer
        self.skip_bad, self.seed = skip_bad, seed
        self.kinds = next(iter(self.tags.values()), [])

    def splits(self) -> dict[str, Split]:
        records_by_split, bad = self.records()
        report_bad(bad, "rows", self.skip_bad)
        self.check(records_by_split)
        vocabulary = self.learn(records_by_split["transfer"])
        return with_longest({name: self.split(records, vocabulary) for name, records in records_by_split.items()})

    def preview(self) -> tuple[int, Split]:
        records_by_split, _ = self.records()
        self.check(records_by_split)
        records = records_by_split["transfer"]
        transfer = with_longest({"transfer": self.split(records, self.learn(records))})["transfer"]
        return len(records), transfer.first(64)  # as wide as the widest of all

    def records(self) -> tuple[dict[str, list[Record]], list[str]]:
        """Every split's records, and a line for each row that cannot be used. Raises ValueError if a file or split has none."""
        bad: list[str] = []
        read_files = partial(read_records, text=self.text, classes=self.names, tags=self.tags, columns=self.columns, bad=bad)
        records_by_split = self.divided(
            {name: read_files(files, longest=self.longest) for name, files in self.files.items() if files}
        )
        return self.apart(records_by_split, bad), bad

    def apart(self, records_by_split: dict[str, list[Record]], bad: list[str]) -> dict[str, list[Record]]:
        """Without records of an earlier split, which are added to `bad`; test splits may share rows."""
        first_uses: dict[tuple[str, ...], tuple[str, str]] = {}
        kept_by_split: dict[str, list[Record]] = {name: [] for name in records_by_split}
        for name, records in records_by_split.items():
            for record in records:
                other_split, where = first_uses.setdefault(tuple(record.words), (name, record.where))
                if other_split == name or (name.startswith("test/") and other_split.startswith("test/")):
                    kept_by_split[name].append(record)
                    continue
                cut_hint = f", its first {self.longest} words as longest says," if len(record.words) == self.longest else ""
                bad.append(
                    f"{record.where}: this text of {name}{cut_hint} is also in {other_split} ({where}); splits share no row"
                )
        return kept_by_split

    def divided(self, records_by_split: dict[str, list[Record]]) -> dict[str, list[Record]]:
        """Also with the splits that have no files of their own."""
        if not any(self.shares.values()):
            return records_by_split
        drawn_from = records_by_split["transfer"]
        ids = ids_of({"first": [record.words for record in drawn_from]})
        splits: dict[str, list[Record]] = {"train": [], "val": [], "test": []}
        for record, sample_id in zip(drawn_from, ids, strict=True):
            split = drawn(bytes(sample_id), self.shares["val"], self.shares["test/clean"], self.seed)
            splits[split if record.labels else "train"].append(record)
        drawn_splits = {name: splits[name.split("/")[0]] for name, share in self.shares.items() if share}
        return records_by_split | {"transfer": splits["train"]} | drawn_splits

    def check(self, records_by_split: dict[str, list[Record]]) -> None:
        """Raises ValueError if a split lacks a label that does not belong to an unseen task."""
        for label in self.columns:
            self.check_label(label, records_by_split)

    def check_label(self, label: str, records_by_split: dict[str, list[Record]]) -> None:
        splits_with = {name for name, records in records_by_split.items() if any(label in record.labels for record in records)}
        splits_without = [name for name in records_by_split if name not in splits_with and name not in UNSEEN]
        if not splits_without or ("transfer" in splits_without and set(UNSEEN) <= splits_with):
            return
        if splits_with and not self.files.get(splits_without[0]):
            share = splits_without[0].split("/")[0]
            raise ValueError(
                f"none of the rows with a label of {label} fell into {splits_without[0]}; label more, or raise {share}"
            )
        files = self.files.get(splits_without[0]) or self.files["transfer"]
        file_names, column = ", ".join(files), self.columns[label]
        columns = columns_of(files, self.text, next((self.columns[name] for name in self.tags), "tags"))
        if column not in columns:
            raise ValueError(f"{file_names}: no column {column!r}{near(column, columns)}; there are {', '.join(columns)}")
        raise ValueError(f"{file_names}: no row has a label of {label}; {splits_without[0]} needs one at least")

    def words_of(self, line: str) -> list[str]:
        """A line's words. Files with a tag per word have marks as words of their own, and so has the line."""
        words = words_in(line)
        known_words = {word for record in self.transfer for word in record.words} if self.tags else set(words)
        return [part for word in words for part in marks_apart(word, known_words)]

    def learnt(self) -> Vocabulary | Borrowed:
        return self.learn([] if self.tokenizer else self.transfer)

    @cached_property
    def transfer(self) -> list[Record]:
        return self.records()[0]["transfer"]

    def learn(self, records: list[Record]) -> Vocabulary | Borrowed:
        if self.tokenizer:
            return Borrowed(self.tokenizer)
        assert self.vocabulary
        return Vocabulary([record.words for record in records], self.vocabulary)

    def split(self, records: list[Record], vocabulary: Vocabulary | Borrowed) -> Split:
        rows_by_side = {"first": [record.words for record in records]}
        labels = {}
        for name, classes in self.names.items():
            values = [record.labels.get(name) for record in records]
            labels[name] = np.array([-1 if value is None else classes.index(value) for value in values], np.int64)
        for name, kinds in self.tags.items():
            tag_names = tags_of(kinds)
            tag_ids = [[tag_names.index(tag) for tag in record.labels.get(name, [])] for record in records]
            width = max(len(words) for words in rows_by_side["first"])
            labels[name] = padded([*tag_ids, [0] * width], -1, np.int64)[:-1]
        flags = {name: np.asarray((array >= 0).reshape(len(array), -1).any(1)) for name, array in labels.items()}
        inputs, about = as_arrays(rows_by_side, {}, {"first": vocabulary}), about_tokens({"first": vocabulary})
        return Split(inputs, dict(labels), flags, np.zeros(len(records), np.int32), ids_of(rows_by_side), about)
