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
        for name, (size, most) in (sizes | {"views": (views, 9), "unseen": (unseen, COLD // 2)}).items():
            if not 1 <= size <= most:
                raise ValueError(f"{name}: {size}, expected 1 to {most}: the world holds no more")
        logged, wanted = USERS * VISITS * NEW * len(TRAINED) // 2, sum(labelled.values()) + unlabelled
        if wanted > logged:
            raise ValueError(f"labelled, unlabelled: {wanted} lists together, expected at most {logged}")
        self.labelled, self.unlabelled, self.views, self.length = labelled, unlabelled, views, length
        self.val, self.test, self.unseen, self.seed = val, test, unseen, seed

    def splits(self) -> dict[str, Split]:
        world = make_world(stream(self.seed, "world"))
        log, late, seen = play(world, stream(self.seed, "log"), self.length)
        tested = Lists.join([log[period] for period in TEST])
        fresh = late["new"].take(stream(self.seed, "unseen").permutation(len(late["new"])))
        fresh = fresh.take(np.flatnonzero(fresh.click.any(1)))
        few = fresh.take(np.arange(self.unseen))
        far = fresh.take(np.flatnonzero(~np.isin(fresh.user[:, 0], few.user[:, 0])))  # no user's pair is in both
        return {
            "transfer": self.transfer(world, log, seen),
            "val": whole(self.some("val", log[VAL], self.val)),
            "test/clean": whole(self.some("test", tested, self.test)),
            "test/catalogue": whole(self.catalogue(world, seen)),
            "test/cold_users": whole(self.some("cold", late["cold"], self.test)),
            "test/new_items": whole(self.some("new", late["new"], self.test)),
            "unseen/train": single(few),
            "unseen/test": single(far),
        }

    def read(self, given: str) -> Iterable[tuple[str, Arrays]]:
        """A user by number, with every item of the taught domains; users after the known ones have side features alone."""
        if not given.isdecimal() or not 1 <= int(given) <= USERS + COLD:
            raise ValueError(f"{given!r}: no such user; expected a number from 1 to {USERS + COLD}, above {USERS} a new one's")
        world, item = make_world(stream(self.seed, "world")), np.arange(sum(ITEMS[:NEW]))[None]
        _, _, seen = play(world, stream(self.seed, "log"), self.length)
        lists = world.lists(stream(self.seed, "read"), np.array([int(given) - 1]), item, np.array([TEST[1]]), seen)
        return [("", {name: x[0] for name, x in lists.inputs().items()})]

    def preview(self) -> tuple[int, Split]:
        few = Interactions(
            labelled=dict.fromkeys(self.labelled, PREVIEW),
            **{"unlabelled": PREVIEW, "views": self.views, "length": self.length, "val": 1, "test": 1, "unseen": 1},
            seed=self.seed,
        )
        world = make_world(stream(self.seed, "world"))
        log, _, seen = play(world, stream(self.seed, "log"), self.length)
        return (sum(self.labelled.values()) + self.unlabelled) * self.views, few.transfer(world, log, seen)

    def some(self, name: str, lists: Lists, size: int) -> Lists:
        return lists.take(stream(self.seed, name).permutation(len(lists))[:size])

    def transfer(self, world: World, log: dict[int, Lists], seen: np.ndarray) -> Split:
        """Lists of the early periods: labelled, logged without labels, and of candidates that nobody chose."""
        rng, logged = stream(self.seed, "transfer"), Lists.join([log[period] for period in TRAINED])
        rows, parts = rng.permutation(len(logged)), {}
        for task, size in self.labelled.items():
            fit = rows[logged.rating[rows].any(1)] if task == "rating" else rows
            parts[task] = logged.take(fit[:size])
            rows = np.setdiff1d(rows, fit[:size], assume_unique=True)
            rng.shuffle(rows)
        count = self.unlabelled // 2
        period, domain = rng.integers(0, len(TRAINED), count), rng.integers(0, NEW, count)
        item = np.stack([rng.permutation(np.arange(n) + sum(ITEMS[:d]))[: self.length] for d in domain for n in [ITEMS[d]]])
        random = world.lists(rng, rng.integers(0, USERS, count), item, period, seen)
        parts["none"] = Lists.join([logged.take(rows[: self.unlabelled - count]), random])
        return transfer(parts, self.views, rng, tuple(self.labelled))

    def catalogue(self, world: World, seen: np.ndarray) -> Lists:
        """Some users, asked about every item of a domain, in random order: no bias from what was shown."""
        rng = stream(self.seed, "catalogue")
        user, at = rng.permutation(USERS)[:CATALOGUE], np.full(CATALOGUE, TEST[1])
        item = np.tile(np.arange(ITEMS[0]), (CATALOGUE, 1)) + (np.arange(CATALOGUE) % NEW * ITEMS[0])[:, None]
        return world.lists(rng, user, rng.permuted(item, axis=1), at, seen)


def single(lists: Lists) -> Split:
    """Two rows per list, of one candidate each, from a domain that nobody was taught: one that was clicked, and one not."""
    rows = np.arange(2 * len(lists)) // 2
    place = np.argmax(lists.click[rows] == (np.arange(len(rows)) % 2)[:, None], 1)[:, None]
    cut = {name: np.take_along_axis(getattr(lists, name)[rows], place, 1) for name in ("number", *TASKS)}
    one = Lists(lists.user[rows], np.take_along_axis(lists.item[rows], place[:, None], 2), **cut)
    split = whole(one)
    labels = {**split.labels, "likes_new_item": one.click[:, 0].astype(np.int64)}
    labelled = {**split.labelled, "likes_new_item": np.ones(len(rows), bool)}
    return Split(split.inputs, labels, labelled, split.view, split.sample_id)
