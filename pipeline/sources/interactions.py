"""A world of users and items with latent tastes, whose log is biased by popularity and by what was chosen to be shown.

Time runs in periods: what is popular is shown more, what is shown is clicked, what is clicked becomes popular. Networks
learn from early periods and are tested on late ones; an item's popularity counts clicks of periods before the row's alone.
Frozen before any distilled student was run: every figure of the example is of this world.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from pipeline.sources.candidates import TASKS, UNKNOWN, Candidates, Lists, transfer, whole
from pipeline.sources.source import Arrays, Split

USERS, COLD = 400, 200  # known ones, and ones that appear when all learning is done
ITEMS = (200, 200, 100)  # of two domains, and of a third that opens when all learning is done
NEW = len(ITEMS) - 1
USER_VALUES = {"age": 6, "region": 6, "income": 5}
ITEM_VALUES = {"category": 10, "maker": 15, "price": 5}
FACTORS = 6  # of taste
TRAINED, VAL, TEST = range(7), 7, (8, 9)  # periods
VISITS = 4  # lists a known user sees of a domain in a period
CATALOGUE = 100  # users who are asked about every item of a domain
LOUD = 1.0  # what popularity weighs in what is shown
CHOSEN = 1.0  # what the user's taste weighs in it
DRIFT = 0.3  # of taste from the first period to the last, against taste itself
BUCKETS = 16  # of popularity
PREVIEW = 16  # lists of each kind


@dataclass(frozen=True)
class World:
    """users: (U, 4) columns id, age, region, income. items: (I, 5) columns id, category, maker, price, domain, from 1 on.

    taste: (2, domains, U, factors), in the first and the last period. traits: (tasks, I, factors), alike but not the same.
    quality: (I,). released: (I,), period.
    """

    users: np.ndarray
    items: np.ndarray
    taste: np.ndarray
    traits: np.ndarray
    quality: np.ndarray
    released: np.ndarray

    def affinity(self, user: np.ndarray, item: np.ndarray, period: np.ndarray) -> np.ndarray:
        """Of each task (tasks, N, L), about standard normal. user, period: (N,). item: (N, L)."""
        domain, share = self.items[item[:, 0], 4] - 1, (period / TEST[1])[:, None]
        taste = (1 - share) * self.taste[0, domain, user] + share * self.taste[1, domain, user]
        return np.einsum("nf,tnlf->tnl", taste, self.traits[:, item])

    def lists(
        self,
        rng: np.random.Generator,
        user: np.ndarray,
        item: np.ndarray,
        period: np.ndarray,
        seen: np.ndarray,
        told: bool = True,
    ) -> Lists:
        """What users do with candidates (N, L). seen: clicks before, (periods, I). told: networks know the items' ids."""
        (clicks, buys, rates), quality = self.affinity(user, item, period), self.quality[item]
        means = self.users[user, 3][:, None] - self.items[item, 3]
        click = chance(rng, -3.6 + 1.8 * clicks + 0.7 * quality)
        bought = click & chance(rng, -1.6 + 1.2 * buys + 0.5 * np.minimum(means, 0) + 0.4 * quality)
        stars = np.clip(np.rint(3.2 + 0.9 * rates + 0.5 * quality + 0.5 * rng.standard_normal(item.shape)), 1, 5)
        columns = self.items[item].transpose(0, 2, 1)
        popularity = 1 + np.minimum(BUCKETS - 2, 1.2 * np.log2(1 + seen[period[:, None], item]))
        ids, domain = columns[:, :1] * told, columns[:, 4:] * told
        shown = np.concatenate([ids, popularity[:, None], columns[:, 1:4], domain], 1)
        return Lists(
            user=self.users[user].astype(np.int32),
            item=shown.astype(np.int32),
            number=item.astype(np.int32),
            click=click.astype(np.int8),
            conversion=bought.astype(np.int8),
            rating=np.where(click, stars, 0).astype(np.float32),
        )


def chance(rng: np.random.Generator, logits: np.ndarray) -> np.ndarray:
    return rng.random(logits.shape) < 1 / (1 + np.exp(-logits))


def make_world(rng: np.random.Generator) -> World:
    total, count = USERS + COLD, sum(ITEMS)
    age, region, income = (rng.integers(1, n + 1, total) for n in USER_VALUES.values())
    category, maker, price = (rng.integers(1, n + 1, count) for n in ITEM_VALUES.values())
    domain = np.repeat(np.arange(len(ITEMS)), ITEMS) + 1
    known = np.where(np.arange(total) < USERS, np.arange(total) + 1, UNKNOWN)

    def vectors(*shape: int) -> np.ndarray:
        return rng.standard_normal((*shape, FACTORS))

    ages, regions, incomes = (n + 1 for n in USER_VALUES.values())
    categories, makers, _ = (n + 1 for n in ITEM_VALUES.values())
    side = (
        vectors(ages)[age]
        + vectors(regions)[region]
        + 0.5 * vectors(ages, regions)[age, region]
        + 0.5 * vectors(incomes)[income]
    )
    own = side + 0.8 * vectors(total)
    taste = own + 0.4 * (vectors(len(ITEMS), ages)[:, age] + vectors(len(ITEMS), total))
    ends = np.stack([taste, taste + DRIFT * np.std(taste) * vectors(total)])
    shared = vectors(categories)[category] + 0.5 * vectors(makers)[maker] + 0.4 * vectors(count)
    traits = shared + 0.7 * (vectors(len(TASKS), categories)[:, category] + 0.4 * vectors(len(TASKS), count))
    return World(
        users=np.column_stack([known, age, region, income]),
        items=np.column_stack([np.arange(count) + 1, category, maker, price, domain]),
        taste=ends / np.std(ends),
        traits=traits / np.std(traits) / FACTORS**0.5,
        quality=0.6 * rng.standard_normal(count) + 0.8 * rng.standard_normal(makers)[maker],
        released=np.where((rng.random(count) < 0.3) & (domain <= NEW), rng.integers(1, 7, count), 0),
    )


def play(world: World, rng: np.random.Generator, length: int) -> tuple[dict[int, Lists], dict[str, Lists], np.ndarray]:
    """{period: what known users did}, {"cold", "new": cold users', and known users' on the new domain}, clicks so far."""
    seen = np.zeros((TEST[1] + 2, sum(ITEMS)), np.int64)
    known, cold = np.tile(np.arange(USERS), VISITS), np.arange(USERS, USERS + COLD)
    log: dict[int, Lists] = {}
    late: dict[str, list[Lists]] = {"cold": [], "new": []}
    for period in range(TEST[1] + 1):
        shown = [(known, show(world, rng, known, domain, period, seen, length)) for domain in range(NEW)]
        log[period] = Lists.join([world.lists(rng, user, item, np.full(len(user), period), seen) for user, item in shown])
        clicked = np.bincount(log[period].number.ravel(), weights=log[period].click.ravel(), minlength=sum(ITEMS))
        seen[period + 1] = seen[period] + clicked.astype(np.int64)
        if period in TEST:
            at = np.full(COLD, period)
            for domain in range(NEW):
                item = show(world, rng, cold, domain, period, seen, length)
                late["cold"].append(world.lists(rng, cold, item, at, seen))
            some = rng.permutation(USERS)[:COLD]
            item = show(world, rng, some, NEW, period, seen, length)
            late["new"].append(world.lists(rng, some, item, at, seen, told=False))
    return log, {name: Lists.join(parts) for name, parts in late.items()}, seen


def show(
    world: World, rng: np.random.Generator, user: np.ndarray, domain: int, period: int, seen: np.ndarray, length: int
) -> np.ndarray:
    """Candidates (N, L) of one domain as a shop would choose them: what is popular, and what users seem to like."""
    first = sum(ITEMS[:domain])
    item = np.tile(np.arange(first, first + ITEMS[domain]), (len(user), 1))
    liked = world.affinity(user, item, np.full(len(user), period))[0] + rng.standard_normal(item.shape)
    loud = np.log1p(seen[period, item]) / np.log(20)
    score = LOUD * loud + CHOSEN * liked + rng.gumbel(size=item.shape)
    score[world.released[item] > period] = -np.inf
    best = np.argpartition(-score, length, 1)[:, :length]
    return np.take_along_axis(item, rng.permuted(best, axis=1), 1)


@final
class Interactions(Candidates):
    """labelled: {task: lists with that task's labels and no others}; unlabelled: half of them of candidates at random.

    views: rows a list has in the transfer set; view 0 is the list as it is. length: candidates a list. val, test, unseen:
    lists of each; of an unseen one there are two rows.
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

    def stream(self, name: str) -> np.random.Generator:
        """Random numbers of one part, whatever the size of the others."""
        return np.random.default_rng([self.seed, *name.encode()])

    def splits(self) -> dict[str, Split]:
        world = make_world(self.stream("world"))
        log, late, seen = play(world, self.stream("log"), self.length)
        tested = Lists.join([log[period] for period in TEST])
        fresh = late["new"].take(self.stream("unseen").permutation(len(late["new"])))
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

    def read(self, given: str) -> dict[str, Arrays]:
        """A user by number, those after the known ones by side features alone; every item of the taught domains."""
        if not given.isdecimal() or not 1 <= int(given) <= USERS + COLD:
            raise ValueError(f"{given!r}: no such user; expected a number from 1 to {USERS + COLD}, above {USERS} a new one's")
        world, item = make_world(self.stream("world")), np.arange(sum(ITEMS[:NEW]))[None]
        _, _, seen = play(world, self.stream("log"), self.length)
        lists = world.lists(self.stream("read"), np.array([int(given) - 1]), item, np.array([TEST[1]]), seen)
        return {"": {name: x[0] for name, x in lists.inputs().items()}}

    def preview(self) -> tuple[int, Split]:
        few = Interactions(
            labelled=dict.fromkeys(self.labelled, PREVIEW),
            **{"unlabelled": PREVIEW, "views": self.views, "length": self.length, "val": 1, "test": 1, "unseen": 1},
            seed=self.seed,
        )
        world = make_world(self.stream("world"))
        log, _, seen = play(world, self.stream("log"), self.length)
        return (sum(self.labelled.values()) + self.unlabelled) * self.views, few.transfer(world, log, seen)

    def some(self, name: str, lists: Lists, size: int) -> Lists:
        return lists.take(self.stream(name).permutation(len(lists))[:size])

    def transfer(self, world: World, log: dict[int, Lists], seen: np.ndarray) -> Split:
        """Lists of the early periods: labelled, logged without labels, and of candidates that nobody chose."""
        rng, logged = self.stream("transfer"), Lists.join([log[period] for period in TRAINED])
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
        """Some users, asked about every item of a domain, in random order: no bias of what was shown."""
        rng = self.stream("catalogue")
        user, at = rng.permutation(USERS)[:CATALOGUE], np.full(CATALOGUE, TEST[1])
        item = np.tile(np.arange(ITEMS[0]), (CATALOGUE, 1)) + (np.arange(CATALOGUE) % NEW * ITEMS[0])[:, None]
        return world.lists(rng, user, rng.permuted(item, axis=1), at, seen)


def single(lists: Lists) -> Split:
    """Two rows a list, of one candidate each, of a domain that nobody was taught: one that was clicked, and one not."""
    rows = np.arange(2 * len(lists)) // 2
    place = np.argmax(lists.click[rows] == (np.arange(len(rows)) % 2)[:, None], 1)[:, None]
    cut = {name: np.take_along_axis(getattr(lists, name)[rows], place, 1) for name in ("number", *TASKS)}
    one = Lists(lists.user[rows], np.take_along_axis(lists.item[rows], place[:, None], 2), **cut)
    split = whole(one)
    labels = {**split.labels, "likes_new_item": one.click[:, 0].astype(np.int64)}
    labelled = {**split.labelled, "likes_new_item": np.ones(len(rows), bool)}
    return Split(split.inputs, labels, labelled, split.view, split.sample_id)
