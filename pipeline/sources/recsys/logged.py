"""Lists of candidates from a log: divided by time, popularity from the past alone, negatives sampled where asked for."""

import csv
import io
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from pipeline.sources.recsys.candidates import TASKS, UNKNOWN, Candidates, Lists, transfer, whole
from pipeline.sources.source import Arrays, Split

BUCKETS = 24  # of popularity, two an octave
PREVIEW = 16  # lists


@dataclass(frozen=True)
class Log:
    """N interactions of U users with I items, in any order.

    user, item: (N,), numbers from 0. time: (N,). outcomes: {task: (N,)}: responses 1 or 0, ratings 0 where there is none.
    users: (U, columns) and items: (I, columns), side features as numbers from 1, 0 unknown; an item's first is its category.
    user_names, item_names: what people call them.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    outcomes: dict[str, np.ndarray]
    users: np.ndarray
    items: np.ndarray
    user_names: list[str]
    item_names: list[str]


class LoggedCandidates(Candidates):
    """length: candidates a list, of which `negatives` are drawn from what the user has not met; short lists are masked.

    Tell tasks the `rate` at which negatives were sampled. unlabelled: lists of random candidates in the transfer set. views:
    rows a list has there. val, test: shares of the interactions, by time, the last ones test. cold, new: shares of the users
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

    def splits(self) -> dict[str, Split]:
        log, rng = self.read_log(), np.random.default_rng(self.seed)
        rows = self.divided(log, rng)
        for task, outcome in log.outcomes.items():
            if not outcome[rows["transfer"]].any():
                raise ValueError(
                    f"{task}: no interaction that is learned from has any; leave its column out, or change val, test"
                )
        maker = ListMaker(log, rows["transfer"], self.length, self.negatives, rng)
        learned, ever = rows["transfer"], np.ones(len(log.user), bool)
        # who learns must not be told, by what is never a negative, what users meet later; nor may an unknown id tell a click
        made = {
            name: maker.lists(
                flag, flag if name == "test/new_items" else learned | flag, learned if name == "transfer" else ever
            )
            for name, flag in rows.items()
        }
        parts = {"all": made["transfer"]} | ({"none": maker.random(self.unlabelled)} if self.unlabelled else {})
        tasks = tuple(task for task in TASKS if task in log.outcomes)
        user, item = ([int(x.max()) + 1 for x in table.T] for table in (log.users, log.items))
        sizes = {"user": [len(log.users) + 1, *user], "item": [len(log.items) + 1, BUCKETS, *item]}
        splits = {"transfer": transfer(parts, self.views, rng, tasks)} | {
            name: whole(lists, tasks) for name, lists in made.items() if name != "transfer"
        }
        about = {name: {"sizes": found} for name, found in sizes.items()}
        return {name: replace(split, about=about) for name, split in splits.items()}

    def divided(self, log: Log, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """{split: (N,) bool}: by time; what cold users do, or is done with new items, is tested alone."""
        begin_val, begin_test = np.quantile(log.time, [1 - self.val - self.test, 1 - self.test])
        early, late = log.time < begin_val, log.time >= begin_test
        if not (early.any() and late.any() and (~early & ~late).any()):
            raise ValueError(
                f"time: {len(log.time)} interactions at {len(np.unique(log.time))} different times, which leave none for "
                "learning, val or test; give finer times, or change val and test"
            )
        cold, new = (rng.random(len(x)) < share for x, share in ((log.users, self.cold), (log.items, self.new)))
        whose = f"{len(cold)} users, {cold.sum()} of them cold, and {len(new)} items, {new.sum()} of them new"
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
                    f"{name}: no interaction falls into it, of {whose}; change val, test, cold or new (0: no such test)"
                )
        if self.negatives and self.new and len(np.unique(log.item[rows["test/new_items"]])) == 1:
            raise ValueError("test/new_items: a single item, which leaves no other to draw negatives from; raise new or test")
        return rows

    def read(self, given: str) -> Iterable[tuple[str, Arrays]]:
        """A user of the log, by name, with all items that they never met, as they are known when it ends."""
        log, rng = self.read_log(), np.random.default_rng(self.seed)
        if given not in log.user_names:
            raise ValueError(f"{given!r}: no such user; expected one as in the log, such as {log.user_names[0]!r}")
        user = log.user_names.index(given)
        item = np.setdiff1d(np.arange(len(log.items)), log.item[log.user == user])[None]
        if not item.size:
            raise ValueError(f"{given!r}: has met every item; expected a user for whom some are left")
        maker = ListMaker(log, self.divided(log, rng)["transfer"], self.length, self.negatives, rng)
        lists = maker.told_as(np.array([user]), np.array([np.inf]), item, np.ones(item.shape, bool), {})
        return [("", {name: x[0] for name, x in lists.inputs().items()} | {"name": np.array(log.item_names)[item[0]]})]

    def inputs_in_words(self) -> str:
        return (
            "user: a line of users.csv; item: lines of items.csv, a column a candidate; mask: which candidates there are. The "
            "id is 0 of whoever came up after all that was learned from; popularity is as the log ended"
        )

    def beside(self) -> dict[str, str]:
        """All users and items by name, as networks take them."""
        log, rng = self.read_log(), np.random.default_rng(self.seed)
        maker = ListMaker(log, self.divided(log, rng)["transfer"], self.length, self.negatives, rng)
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
    """A line each: its name, and its columns; those beyond the header are numbered."""
    header = header + [f"column {n}" for n in range(len(header), table.shape[1] + 1)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([header, *([name, *row] for name, row in zip(names, table.tolist(), strict=True))])
    return out.getvalue()


class ListMaker:
    """Lists as networks may know them: ids of what is in the log's `learned` rows, popularity before the list's time.

    Popularity counts the users who clicked on an item, as if as many clicks had come before as are learned from: a log only
    grows, and a network knows nothing of numbers beyond those that it learned from.
    """

    def __init__(self, log: Log, learned: np.ndarray, length: int, negatives: int, rng: np.random.Generator):
        self.log, self.length, self.negatives, self.rng = log, length, negatives, rng
        self.rows = np.flatnonzero(learned)
        self.told = [
            np.isin(np.arange(len(table)), ids[learned]) for table, ids in ((log.users, log.user), (log.items, log.item))
        ]
        self.pairs = log.user * len(log.items) + log.item
        early = np.flatnonzero(log.outcomes["click"] > 0)
        early = early[np.argsort(log.time[early], kind="stable")]
        early = early[np.unique(self.pairs[early], return_index=True)[1]]  # who clicks twice counts once
        self.enough = max(1, learned[early].sum())
        self.times, self.moments = np.sort(log.time[early]), np.unique(log.time)
        self.clicks = np.sort(log.item[early] * (len(self.moments) + 1) + self.moment(log.time[early]))

    def moment(self, time: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.moments, time)

    def seen(self, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Users who clicked on items (N, L) before a time (N,)."""
        first = item * (len(self.moments) + 1)
        return np.searchsorted(self.clicks, first + self.moment(time)[:, None]) - np.searchsorted(self.clicks, first)

    def popularity(self, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Buckets of items (N, L) at a time (N,), from 1; of few clicks so far no more is made than eight times as many."""
        before = np.searchsorted(self.times, time)[:, None]
        seen = self.seen(item, time) * (self.enough / np.maximum(before, self.enough / 8))
        return 1 + np.minimum(BUCKETS - 2, 2 * np.log2(1 + seen))

    def lists(self, of: np.ndarray, like: np.ndarray, known: np.ndarray) -> Lists:
        """Each user's interactions in order of time, so many a list; with negatives, all in random order.

        Who meets an item again, as who views and then buys it, has it once, when they first met it, with the best outcomes.
        of: (N,) bool, which interactions. like: (N,) bool, those whose items negatives are drawn from. known: (N,) bool, those
        that no negative may be.
        """
        order, pool, met = np.flatnonzero(of), np.unique(self.log.item[like]), np.unique(self.pairs[known])
        order = order[np.lexsort((self.log.time[order], self.log.user[order]))]
        order, best = self.once(order)
        user, most = self.log.user[order], self.length - self.negatives
        begin = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
        nth = np.arange(len(order)) - np.repeat(begin, np.diff(np.r_[begin, len(order)]))
        first = np.flatnonzero(nth % most == 0)
        row, place = np.cumsum(nth % most == 0) - 1, nth % most
        logged = np.full((len(first), self.length), -1)
        logged[row, place] = order
        item = np.where(logged >= 0, self.log.item[logged], -1)
        for at in range(most, self.length):
            item[:, at] = self.unmet(user[first], pool, met)
        if self.negatives:
            mixed = self.rng.permuted(np.tile(np.arange(self.length), (len(first), 1)), axis=1)
            item, logged = (np.take_along_axis(x, mixed, 1) for x in (item, logged))
        outcomes = {task: np.where(logged >= 0, found[logged], 0) for task, found in best.items()}
        return self.told_as(user[first], self.log.time[order][first], item, item >= 0, outcomes)

    def once(self, order: np.ndarray) -> tuple[np.ndarray, Arrays]:
        """Of these interactions the first of each pair of user and item, and {task: (N,)}, its best outcome."""
        _, first, pair = np.unique(self.pairs[order], return_index=True, return_inverse=True)
        best = {task: np.zeros(len(self.log.user)) for task in self.log.outcomes}
        for task, found in self.log.outcomes.items():
            np.maximum.at(best[task], order[first][pair], found[order])
        return order[np.sort(first)], best

    def unmet(self, user: np.ndarray, pool: np.ndarray, met: np.ndarray) -> np.ndarray:
        """An item of the pool that each user did not meet; -1 where eight draws find none.

        met: numbers of pairs of a user and an item, sorted, so that a draw costs by how many are asked, not by all that is met.
        """
        found = np.full(len(user), -1)
        for _ in range(8):
            drawn = self.rng.choice(pool, len(user))
            pair = user * len(self.log.items) + drawn
            fresh = np.searchsorted(met, pair) == np.searchsorted(met, pair, "right")
            found = np.where((found < 0) & fresh, drawn, found)
        return found

    def random(self, count: int) -> Lists:
        """Learned users at times of theirs, with candidates drawn from all that was learned; no outcome is known."""
        row = self.rng.choice(self.rows, count)
        item = self.rng.choice(np.unique(self.log.item[self.rows]), (count, self.length))
        return self.told_as(self.log.user[row], self.log.time[row], item, np.ones(item.shape, bool), {})

    def users(self, user: np.ndarray) -> np.ndarray:
        """(N,) -> (N, columns) int32: the id, then side features."""
        told, _ = self.told
        return np.column_stack([np.where(told[user], user + 1, UNKNOWN), self.log.users[user]]).astype(np.int32)

    def items(self, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """(N, L) at times (N,) -> (N, columns, L) int32: the id, popularity, then side features."""
        _, told = self.told
        known = np.where(told[item], item + 1, UNKNOWN), self.popularity(item, time)
        return np.concatenate([np.stack(known, 1), self.log.items[item].transpose(0, 2, 1)], 1).astype(np.int32)

    def told_as(
        self, user: np.ndarray, time: np.ndarray, item: np.ndarray, exists: np.ndarray, outcomes: dict[str, np.ndarray]
    ) -> Lists:
        blank = np.zeros(item.shape)
        click, bought = (np.where(exists, outcomes.get(task, blank), -1).astype(np.int8) for task in ("click", "conversion"))
        return Lists(
            user=self.users(user),
            item=np.where(exists[:, None], self.items(item, time), UNKNOWN).astype(np.int32),
            number=np.where(exists, item, 0).astype(np.int32),
            click=click,
            conversion=bought,
            rating=np.where(exists, outcomes.get("rating", blank), 0).astype(np.float32),
        )
