"""What users of a made-up world do with items: lists as a shop shows them, of all items, of new users, in a new domain."""

from collections.abc import Iterable
from typing import final

import numpy as np

from pipeline.seeds import stream
from pipeline.sources.recsys.candidates import TASKS, Candidates, Lists, transfer, whole
from pipeline.sources.recsys.world import COLD, ITEMS, NEW, TEST, TRAINED, USERS, VAL, VISITS, World, make_world, play
from pipeline.sources.source import Arrays, Split

CATALOGUE = 100  # users who are asked about every item of a domain
PREVIEW = 16  # lists of each kind


@final
class Interactions(Candidates):
    """labelled: {task: lists with that task's labels and no others}; unlabelled: half of them of candidates at random.

    views: rows per list in the transfer set; view 0 is the list as it is. length: candidates per list. val, test, unseen:
    lists of each; an unseen one gives two rows.
    """

    def __init__(
        self, *, labelled: dict[str, int], unlabelled: int, views: int, length: int, val: int, test: int, unseen: int, seed: int
    ):
        for task in labelled:
            if task not in TASKS:
                raise ValueError(f"labelled.{task}: no such task; interactions have labels for {', '.join(TASKS)}")
        sizes = {"length": (length, min(ITEMS) // 2), "val": (val, USERS * VISITS * NEW), "test": (test, COLD * NEW)}
        for name, (size, limit) in (sizes | {"views": (views, 9), "unseen": (unseen, COLD // 2)}).items():
            if not 1 <= size <= limit:
                raise ValueError(f"{name}: {size}, expected 1 to {limit}: the world holds no more")
        logged_count, wanted_count = USERS * VISITS * NEW * len(TRAINED) // 2, sum(labelled.values()) + unlabelled
        if wanted_count > logged_count:
            raise ValueError(f"labelled, unlabelled: {wanted_count} lists together, expected at most {logged_count}")
        self.labelled, self.unlabelled, self.views, self.length = labelled, unlabelled, views, length
        self.val, self.test, self.unseen, self.seed = val, test, unseen, seed

    def splits(self) -> dict[str, Split]:
        world = make_world(stream(self.seed, "world"))
        log, late_lists, clicks = play(world, stream(self.seed, "log"), self.length)
        test_lists = Lists.join([log[period] for period in TEST])
        new_lists = late_lists["new"].take(stream(self.seed, "unseen").permutation(len(late_lists["new"])))
        new_lists = new_lists.take(np.flatnonzero(new_lists.click.any(1)))
        train_lists = new_lists.take(np.arange(self.unseen))
        # no user's pair is in both
        other_lists = new_lists.take(np.flatnonzero(~np.isin(new_lists.user[:, 0], train_lists.user[:, 0])))
        return {
            "transfer": self.transfer(world, log, clicks),
            "val": whole(self.some("val", log[VAL], self.val)),
            "test/clean": whole(self.some("test", test_lists, self.test)),
            "test/catalogue": whole(self.catalogue(world, clicks)),
            "test/cold_users": whole(self.some("cold", late_lists["cold"], self.test)),
            "test/new_items": whole(self.some("new", late_lists["new"], self.test)),
            "unseen/train": single(train_lists),
            "unseen/test": single(other_lists),
        }

    def read(self, given: str) -> Iterable[tuple[str, Arrays]]:
        """A user by number, with every item of the taught domains; users after the known ones have side features alone."""
        if not given.isdecimal() or not 1 <= int(given) <= USERS + COLD:
            raise ValueError(f"{given!r}: no such user; expected a number from 1 to {USERS + COLD}, above {USERS} a new one's")
        world, item = make_world(stream(self.seed, "world")), np.arange(sum(ITEMS[:NEW]))[None]
        _, _, clicks = play(world, stream(self.seed, "log"), self.length)
        lists = world.lists(stream(self.seed, "read"), np.array([int(given) - 1]), item, np.array([TEST[1]]), clicks)
        return [("", {name: array[0] for name, array in lists.inputs().items()})]

    def preview(self) -> tuple[int, Split]:
        small_source = Interactions(
            labelled=dict.fromkeys(self.labelled, PREVIEW),
            **{"unlabelled": PREVIEW, "views": self.views, "length": self.length, "val": 1, "test": 1, "unseen": 1},
            seed=self.seed,
        )
        world = make_world(stream(self.seed, "world"))
        log, _, clicks = play(world, stream(self.seed, "log"), self.length)
        return (sum(self.labelled.values()) + self.unlabelled) * self.views, small_source.transfer(world, log, clicks)

    def some(self, name: str, lists: Lists, size: int) -> Lists:
        return lists.take(stream(self.seed, name).permutation(len(lists))[:size])

    def transfer(self, world: World, log: dict[int, Lists], clicks: np.ndarray) -> Split:
        """Lists of the early periods: labelled, logged without labels, and of candidates that nobody chose."""
        rng, logged_lists = stream(self.seed, "transfer"), Lists.join([log[period] for period in TRAINED])
        rows, parts = rng.permutation(len(logged_lists)), {}
        for task, size in self.labelled.items():
            fitting_rows = rows[logged_lists.rating[rows].any(1)] if task == "rating" else rows
            parts[task] = logged_lists.take(fitting_rows[:size])
            rows = np.setdiff1d(rows, fitting_rows[:size], assume_unique=True)
            rng.shuffle(rows)
        count = self.unlabelled // 2
        period, domain = rng.integers(0, len(TRAINED), count), rng.integers(0, NEW, count)
        item = np.stack([rng.permutation(np.arange(n) + sum(ITEMS[:d]))[: self.length] for d in domain for n in [ITEMS[d]]])
        random_lists = world.lists(rng, rng.integers(0, USERS, count), item, period, clicks)
        parts["none"] = Lists.join([logged_lists.take(rows[: self.unlabelled - count]), random_lists])
        return transfer(parts, self.views, rng, tuple(self.labelled))

    def catalogue(self, world: World, clicks: np.ndarray) -> Lists:
        """Some users, asked about every item of a domain, in random order: no bias from what was shown."""
        rng = stream(self.seed, "catalogue")
        user, period = rng.permutation(USERS)[:CATALOGUE], np.full(CATALOGUE, TEST[1])
        item = np.tile(np.arange(ITEMS[0]), (CATALOGUE, 1)) + (np.arange(CATALOGUE) % NEW * ITEMS[0])[:, None]
        return world.lists(rng, user, rng.permuted(item, axis=1), period, clicks)


def single(lists: Lists) -> Split:
    """Two rows per list, of one candidate each, from a domain that nobody was taught: one that was clicked, and one not."""
    rows = np.arange(2 * len(lists)) // 2
    position = np.argmax(lists.click[rows] == (np.arange(len(rows)) % 2)[:, None], 1)[:, None]
    fields = {name: np.take_along_axis(getattr(lists, name)[rows], position, 1) for name in ("number", *TASKS)}
    single_items = Lists(lists.user[rows], np.take_along_axis(lists.item[rows], position[:, None], 2), **fields)
    split = whole(single_items)
    labels = {**split.labels, "likes_new_item": single_items.click[:, 0].astype(np.int64)}
    labelled = {**split.labelled, "likes_new_item": np.ones(len(rows), bool)}
    return Split(split.inputs, labels, labelled, split.view, split.sample_id)
