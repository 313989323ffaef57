"""Lists of candidates from a log, divided by time; users and items may be kept from all learning."""

import csv
import io
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from pipeline.sources.recsys.candidates import TASKS, Candidates, transfer, whole
from pipeline.sources.recsys.list_maker import BUCKETS, ListMaker, Log
from pipeline.sources.source import Arrays, Split

PREVIEW = 16  # lists


class LoggedCandidates(Candidates):
    """length: candidates per list, of which `negatives` are drawn from what the user has not met; short lists are masked.

    Tell tasks the `rate` at which negatives were sampled. unlabelled: lists of random candidates in the transfer set. views:
    rows per list there. val, test: shares of the interactions, by time, the last ones test. cold, new: shares of the users
    and of the items kept from all learning; 0: no such test split.
    """

    recalls = True

    def __init__(
        self,
        *,
        length: int,
        negatives: int,
        unlabelled: int,
        views: int,
        val: float,
        test: float,
        cold: float,
        new: float,
        seed: int,
    ):
        if not 0 <= negatives < length:
            raise ValueError(f"negatives: {negatives}, expected from 0 to below the length of {length}")
        for name, share in {"val": val, "test": test, "val + test": val + test, "cold": cold, "new": new}.items():
            if not (0 < share < 1 or (share == 0 and name in ("cold", "new"))):
                raise ValueError(f"{name}: {share}, expected a share between 0 and 1; of cold and new also 0, for no such test")
        self.length, self.negatives, self.unlabelled, self.views = length, negatives, unlabelled, views
        self.val, self.test, self.cold, self.new, self.seed = val, test, cold, new, seed

    @abstractmethod
    def read_log(self) -> Log:
        """The log, whole. Raises ValueError with file and line."""

    def opened(self) -> tuple[Log, dict[str, np.ndarray], ListMaker]:
        """The log, its rows by split, and the maker of lists from them."""
        log, rng = self.read_log(), np.random.default_rng(self.seed)
        rows = self.divided(log, rng)
        return log, rows, ListMaker(log, rows["transfer"], self.length, self.negatives, rng)

    def splits(self) -> dict[str, Split]:
        log, rows, maker = self.opened()
        learned, everything = rows["transfer"], np.ones(len(log.user), bool)
        for task, outcome in log.outcomes.items():
            if not outcome[learned].any():
                raise ValueError(
                    f"{task}: no interaction that is learned from has any; leave its column out, or change val, test"
                )
        # what is never a negative must not tell networks what users meet later, nor an unknown id that it was clicked
        lists_by_split = {
            name: maker.lists(
                flag, flag if name == "test/new_items" else learned | flag, learned if name == "transfer" else everything
            )
            for name, flag in rows.items()
        }
        parts = {"all": lists_by_split["transfer"]} | ({"none": maker.random(self.unlabelled)} if self.unlabelled else {})
        tasks = tuple(task for task in TASKS if task in log.outcomes)
        user, item = ([int(column.max()) + 1 for column in table.T] for table in (log.users, log.items))
        sizes = {"user": [len(log.users) + 1, *user], "item": [len(log.items) + 1, BUCKETS, *item]}
        splits = {"transfer": transfer(parts, self.views, maker.rng, tasks)} | {
            name: whole(lists, tasks) for name, lists in lists_by_split.items() if name != "transfer"
        }
        about = {name: {"sizes": column_sizes} for name, column_sizes in sizes.items()}
        return {name: replace(split, about=about) for name, split in splits.items()}

    def divided(self, log: Log, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """{split: (N,) bool}: by time; interactions of cold users or with new items are only tested on."""
        begin_val, begin_test = np.quantile(log.time, [1 - self.val - self.test, 1 - self.test])
        early, late = log.time < begin_val, log.time >= begin_test
        if not (early.any() and late.any() and (~early & ~late).any()):
            raise ValueError(
                f"time: {len(log.time)} interactions at {len(np.unique(log.time))} different times, which leave none for "
                "learning, val or test; give finer times, or change val and test"
            )
        cold, new = (rng.random(len(features)) < share for features, share in ((log.users, self.cold), (log.items, self.new)))
        counts = f"{len(cold)} users, {cold.sum()} of them cold, and {len(new)} items, {new.sum()} of them new"
        cold, new = cold[log.user], new[log.item]
        rows = {
            "transfer": early & ~cold & ~new,
            "val": ~early & ~late & ~cold & ~new,
            "test/clean": late & ~cold & ~new,
        }
        rows |= {"test/cold_users": late & cold & ~new} if self.cold else {}
        rows |= {"test/new_items": late & ~cold & new} if self.new else {}
        for name, flag in rows.items():
            if not flag.any():
                raise ValueError(
                    f"{name}: no interaction falls into it, of {counts}; change val, test, cold or new (0: no such test)"
                )
        if self.negatives and self.new and len(np.unique(log.item[rows["test/new_items"]])) == 1:
            raise ValueError("test/new_items: a single item, which leaves no other to draw negatives from; raise new or test")
        return rows

    def read(self, given: str) -> Iterable[tuple[str, Arrays]]:
        """A user of the log, by name, with all items that they never met, as known when the log ends."""
        log, _, maker = self.opened()
        if given not in log.user_names:
            raise ValueError(f"{given!r}: no such user; expected one as in the log, such as {log.user_names[0]!r}")
        user = log.user_names.index(given)
        item = np.setdiff1d(np.arange(len(log.items)), log.item[log.user == user])[None]
        if not item.size:
            raise ValueError(f"{given!r}: has met every item; expected a user for whom some are left")
        lists = maker.as_lists(np.array([user]), np.array([np.inf]), item, np.ones(item.shape, bool), {})
        return [("", {name: array[0] for name, array in lists.inputs().items()} | {"name": np.array(log.item_names)[item[0]]})]

    def inputs_in_words(self) -> str:
        return (
            "user: a line of users.csv; item: lines of items.csv, a column per candidate; mask: which candidates exist. The "
            "id is 0 of whoever came up after all that was learned from; popularity is as the log ended"
        )

    def beside(self) -> dict[str, str]:
        """All users and items by name, as networks take them."""
        log, _, maker = self.opened()
        users = maker.users(np.arange(len(log.users)))
        (items,) = maker.items(np.arange(len(log.items))[None], np.array([np.inf])).transpose(0, 2, 1)
        return {
            "users.csv": as_csv(["user", "id"], log.user_names, users),
            "items.csv": as_csv(["item", "id", "popularity", "category"], log.item_names, items),
        }

    def preview(self) -> tuple[int, Split]:
        transfer = self.splits()["transfer"]
        return len(transfer.view), transfer.first(PREVIEW)


def as_csv(header: list[str], names: list[str], table: np.ndarray) -> str:
    """One line for each: its name, and its columns; those beyond the header are numbered."""
    header = header + [f"column {n}" for n in range(len(header), table.shape[1] + 1)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([header, *([name, *row] for name, row in zip(names, table.tolist(), strict=True))])
    return out.getvalue()
