"""Lists of candidates out of a log, as networks may know them: popularity from the past alone, negatives sampled."""

from dataclasses import dataclass

import numpy as np

from pipeline.sources.recsys.candidates import UNKNOWN, Lists
from pipeline.sources.source import Arrays

END = np.iinfo(np.int64).max  # above every number of a pair
BUCKETS = 24  # of popularity, two per octave


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


class ListMaker:
    """Lists as networks may know them: ids of what is in the log's `learned` rows, popularity before the list's time.

    Popularity counts the users who clicked on an item, scaled as if as many clicks had come before as are learned from: a log
    only grows, and a network knows nothing of numbers beyond those that it learned from.
    """

    def __init__(self, log: Log, learned: np.ndarray, length: int, negatives: int, rng: np.random.Generator):
        self.log, self.length, self.negatives, self.rng = log, length, negatives, rng
        self.rows = np.flatnonzero(learned)
        self.known_users = np.isin(np.arange(len(log.users)), log.user[learned])
        self.known_items = np.isin(np.arange(len(log.items)), log.item[learned])
        self.pairs = log.user * len(log.items) + log.item
        click_rows = np.flatnonzero(log.outcomes["click"] > 0)
        click_rows = click_rows[np.argsort(log.time[click_rows], kind="stable")]
        click_rows = click_rows[np.unique(self.pairs[click_rows], return_index=True)[1]]  # who clicks twice counts once
        self.enough = max(1, learned[click_rows].sum())
        self.times, self.moments = np.sort(log.time[click_rows]), np.unique(log.time)
        self.clicks = np.sort(log.item[click_rows] * (len(self.moments) + 1) + self.moment(log.time[click_rows]))

    def moment(self, time: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.moments, time)

    def seen(self, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Users who clicked on items (N, L) before a time (N,)."""
        first = item * (len(self.moments) + 1)
        return np.searchsorted(self.clicks, first + self.moment(time)[:, None]) - np.searchsorted(self.clicks, first)

    def popularity(self, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Buckets of items (N, L) at a time (N,), from 1; few clicks so far are scaled up by eight times at most."""
        earlier_count = np.searchsorted(self.times, time)[:, None]
        click_count = self.seen(item, time) * (self.enough / np.maximum(earlier_count, self.enough / 8))
        return 1 + np.minimum(BUCKETS - 2, 2 * np.log2(1 + click_count))

    def lists(self, chosen: np.ndarray, like: np.ndarray, excluded: np.ndarray) -> Lists:
        """Each user's interactions in order of time, cut into lists; with negatives, all in random order.

        An item met again, as when a user views and then buys it, is listed once, when it was first met, with its best outcomes.
        chosen: (N,) bool, which interactions. like: (N,) bool, those whose items negatives are drawn from. excluded: (N,) bool,
        those that no negative may be.
        """
        order, pool = np.flatnonzero(chosen), different(self.log.item[like])
        pairs = np.append(np.sort(self.pairs[excluded]), END)
        order = order[np.lexsort((self.log.time[order], self.log.user[order]))]
        order, best_outcomes = self.once(order)
        user, logged_length = self.log.user[order], self.length - self.negatives
        begin = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
        nth = np.arange(len(order)) - np.repeat(begin, np.diff(np.r_[begin, len(order)]))
        first = np.flatnonzero(nth % logged_length == 0)
        row, slot = np.cumsum(nth % logged_length == 0) - 1, nth % logged_length
        logged = np.full((len(first), self.length), -1)
        logged[row, slot] = order
        item = np.where(logged >= 0, self.log.item[logged], -1)
        for column in range(logged_length, self.length):
            item[:, column] = self.draw_negatives(user[first], pool, pairs, item[:, :column])
        if self.negatives:
            mixed_order = self.rng.permuted(np.tile(np.arange(self.length), (len(first), 1)), axis=1)
            item, logged = (np.take_along_axis(array, mixed_order, 1) for array in (item, logged))
        outcomes = {task: np.where(logged >= 0, outcome[logged], 0) for task, outcome in best_outcomes.items()}
        return self.as_lists(user[first], self.log.time[order][first], item, item >= 0, outcomes)

    def once(self, order: np.ndarray) -> tuple[np.ndarray, Arrays]:
        """The first of these interactions for each pair of user and item, and {task: (N,)}, the pair's best outcome."""
        _, first, pair = np.unique(self.pairs[order], return_index=True, return_inverse=True)
        best_outcomes = {task: np.zeros(len(self.log.user)) for task in self.log.outcomes}
        for task, outcome in self.log.outcomes.items():
            np.maximum.at(best_outcomes[task], order[first][pair], outcome[order])
        return order[np.sort(first)], best_outcomes

    def draw_negatives(self, user: np.ndarray, pool: np.ndarray, excluded: np.ndarray, listed: np.ndarray) -> np.ndarray:
        """For each user an item of the pool, not excluded and not in listed (N, n); -1 where eight draws find none.

        excluded: numbers of pairs of a user and an item, sorted, END last, so that a draw costs no more than what is asked for.
        """
        negatives = np.full(len(user), -1)
        for _ in range(8):
            rows = np.flatnonzero(negatives < 0)
            drawn = self.rng.choice(pool, len(rows))
            pair = user[rows] * len(self.log.items) + drawn
            is_fresh = (excluded[np.searchsorted(excluded, pair)] != pair) & (listed[rows] != drawn[:, None]).all(1)
            negatives[rows[is_fresh]] = drawn[is_fresh]
        return negatives

    def random(self, count: int) -> Lists:
        """Users of the learned rows, at times of theirs, with candidates drawn from all learned items; no outcome is known."""
        row = self.rng.choice(self.rows, count)
        pool, item = different(self.log.item[self.rows]), np.full((count, self.length), -1)
        for column in range(self.length):
            item[:, column] = self.draw_negatives(self.log.user[row], pool, np.array([END]), item[:, :column])
        return self.as_lists(self.log.user[row], self.log.time[row], item, item >= 0, {})

    def users(self, user: np.ndarray) -> np.ndarray:
        """(N,) -> (N, columns) int32: the id, then side features."""
        ids = np.where(self.known_users[user], user + 1, UNKNOWN)
        return np.column_stack([ids, self.log.users[user]]).astype(np.int32)

    def items(self, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """(N, L) at times (N,) -> (N, columns, L) int32: the id, popularity, then side features."""
        first = np.stack([np.where(self.known_items[item], item + 1, UNKNOWN), self.popularity(item, time)], 1)
        return np.concatenate([first, self.log.items[item].transpose(0, 2, 1)], 1).astype(np.int32)

    def as_lists(
        self, user: np.ndarray, time: np.ndarray, item: np.ndarray, exists: np.ndarray, outcomes: dict[str, np.ndarray]
    ) -> Lists:
        """Candidates (N, L), where they exist, of users (N,) at times (N,), as networks may know them. outcomes: (N, L)."""
        blank = np.zeros(item.shape)
        click = np.where(exists, outcomes.get("click", blank), -1).astype(np.int8)
        conversion = np.where(exists, outcomes.get("conversion", blank), -1).astype(np.int8)
        return Lists(
            user=self.users(user),
            item=np.where(exists[:, None], self.items(item, time), UNKNOWN).astype(np.int32),
            number=np.where(exists, item, 0).astype(np.int32),
            click=click,
            conversion=conversion,
            rating=np.where(exists, outcomes.get("rating", blank), 0).astype(np.float32),
        )


def different(numbers: np.ndarray) -> np.ndarray:
    """Each number that occurs, once, in order: faster than np.unique for small numbers."""
    return np.flatnonzero(np.bincount(numbers))
