"""A world of users and items with latent tastes, whose log is biased by popularity and by what was chosen to be shown.

Time runs in periods: what is popular is shown more, what is shown is clicked, what is clicked becomes popular. Networks
learn from early periods and are tested on late ones; an item's popularity counts only clicks of periods before the row's.
Frozen before any distilled student was run: every figure of the example is of this world.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.sources.recsys.candidates import TASKS, UNKNOWN, Lists

USERS, COLD = 400, 200  # known ones, and ones that appear when all learning is done
ITEMS = (200, 200, 100)  # of two domains, and of a third that opens when all learning is done
NEW = len(ITEMS) - 1
USER_VALUES = {"age": 6, "region": 6, "income": 5}
ITEM_VALUES = {"category": 10, "maker": 15, "price": 5}
FACTORS = 6  # of taste
TRAINED, VAL, TEST = range(7), 7, (8, 9)  # periods
VISITS = 4  # lists a known user sees of a domain in a period
LOUD = 1.0  # weight of popularity in what is shown
CHOSEN = 1.0  # weight of the user's taste in it
DRIFT = 0.3  # of taste from the first period to the last, against taste itself
BUCKETS = 16  # of popularity


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
        """For each task (tasks, N, L), about standard normal. user, period: (N,). item: (N, L)."""
        domain, share = self.items[item[:, 0], 4] - 1, (period / TEST[1])[:, None]
        taste = (1 - share) * self.taste[0, domain, user] + share * self.taste[1, domain, user]
        return np.einsum("nf,tnlf->tnl", taste, self.traits[:, item])

    def lists(
        self,
        rng: np.random.Generator,
        user: np.ndarray,
        item: np.ndarray,
        period: np.ndarray,
        earlier_clicks: np.ndarray,
        told: bool = True,
    ) -> Lists:
        """What users do with candidates (N, L). earlier_clicks: (periods, I). told: networks know the items' ids."""
        (clicks, buys, rates), quality = self.affinity(user, item, period), self.quality[item]
        means = self.users[user, 3][:, None] - self.items[item, 3]
        click = chance(rng, -3.6 + 1.8 * clicks + 0.7 * quality)
        conversion = click & chance(rng, -1.6 + 1.2 * buys + 0.5 * np.minimum(means, 0) + 0.4 * quality)
        stars = np.clip(np.rint(3.2 + 0.9 * rates + 0.5 * quality + 0.5 * rng.standard_normal(item.shape)), 1, 5)
        columns = self.items[item].transpose(0, 2, 1)
        popularity = 1 + np.minimum(BUCKETS - 2, 1.2 * np.log2(1 + earlier_clicks[period[:, None], item]))
        ids, domain = columns[:, :1] * told, columns[:, 4:] * told
        item_columns = np.concatenate([ids, popularity[:, None], columns[:, 1:4], domain], 1)
        return Lists(
            user=self.users[user].astype(np.int32),
            item=item_columns.astype(np.int32),
            number=item.astype(np.int32),
            click=click.astype(np.int8),
            conversion=conversion.astype(np.int8),
            rating=np.where(click, stars, 0).astype(np.float32),
        )


def chance(rng: np.random.Generator, logits: np.ndarray) -> np.ndarray:
    return rng.random(logits.shape) < 1 / (1 + np.exp(-logits))


def make_world(rng: np.random.Generator) -> World:
    user_count, item_count = USERS + COLD, sum(ITEMS)
    age, region, income = (rng.integers(1, n + 1, user_count) for n in USER_VALUES.values())
    category, maker, price = (rng.integers(1, n + 1, item_count) for n in ITEM_VALUES.values())
    domain = np.repeat(np.arange(len(ITEMS)), ITEMS) + 1
    ids = np.where(np.arange(user_count) < USERS, np.arange(user_count) + 1, UNKNOWN)

    def vectors(*shape: int) -> np.ndarray:
        return rng.standard_normal((*shape, FACTORS))

    ages, regions, incomes = (n + 1 for n in USER_VALUES.values())
    categories, makers, _ = (n + 1 for n in ITEM_VALUES.values())
    side_factors = (
        vectors(ages)[age]
        + vectors(regions)[region]
        + 0.5 * vectors(ages, regions)[age, region]
        + 0.5 * vectors(incomes)[income]
    )
    user_factors = side_factors + 0.8 * vectors(user_count)
    taste = user_factors + 0.4 * (vectors(len(ITEMS), ages)[:, age] + vectors(len(ITEMS), user_count))
    ends = np.stack([taste, taste + DRIFT * np.std(taste) * vectors(user_count)])
    item_factors = vectors(categories)[category] + 0.5 * vectors(makers)[maker] + 0.4 * vectors(item_count)
    traits = item_factors + 0.7 * (vectors(len(TASKS), categories)[:, category] + 0.4 * vectors(len(TASKS), item_count))
    return World(
        users=np.column_stack([ids, age, region, income]),
        items=np.column_stack([np.arange(item_count) + 1, category, maker, price, domain]),
        taste=ends / np.std(ends),
        traits=traits / np.std(traits) / FACTORS**0.5,
        quality=0.6 * rng.standard_normal(item_count) + 0.8 * rng.standard_normal(makers)[maker],
        released=np.where((rng.random(item_count) < 0.3) & (domain <= NEW), rng.integers(1, 7, item_count), 0),
    )


def play(world: World, rng: np.random.Generator, length: int) -> tuple[dict[int, Lists], dict[str, Lists], np.ndarray]:
    """{period: what known users did}, {"cold", "new": cold users', and known users' on the new domain}, clicks so far."""
    earlier_clicks = np.zeros((TEST[1] + 2, sum(ITEMS)), np.int64)
    known_users, cold_users = np.tile(np.arange(USERS), VISITS), np.arange(USERS, USERS + COLD)
    log: dict[int, Lists] = {}
    late_lists: dict[str, list[Lists]] = {"cold": [], "new": []}
    for period in range(TEST[1] + 1):
        users_and_items = [
            (known_users, show(world, rng, known_users, domain, period, earlier_clicks, length)) for domain in range(NEW)
        ]
        log[period] = Lists.join(
            [world.lists(rng, user, item, np.full(len(user), period), earlier_clicks) for user, item in users_and_items]
        )
        new_clicks = np.bincount(log[period].number.ravel(), weights=log[period].click.ravel(), minlength=sum(ITEMS))
        earlier_clicks[period + 1] = earlier_clicks[period] + new_clicks.astype(np.int64)
        if period in TEST:
            periods = np.full(COLD, period)
            for domain in range(NEW):
                item = show(world, rng, cold_users, domain, period, earlier_clicks, length)
                late_lists["cold"].append(world.lists(rng, cold_users, item, periods, earlier_clicks))
            some_users = rng.permutation(USERS)[:COLD]
            item = show(world, rng, some_users, NEW, period, earlier_clicks, length)
            late_lists["new"].append(world.lists(rng, some_users, item, periods, earlier_clicks, told=False))
    return log, {name: Lists.join(parts) for name, parts in late_lists.items()}, earlier_clicks


def show(
    world: World, rng: np.random.Generator, user: np.ndarray, domain: int, period: int, earlier_clicks: np.ndarray, length: int
) -> np.ndarray:
    """Candidates (N, L) of one domain as a shop would choose them: what is popular, and what users seem to like."""
    first = sum(ITEMS[:domain])
    item = np.tile(np.arange(first, first + ITEMS[domain]), (len(user), 1))
    preference = world.affinity(user, item, np.full(len(user), period))[0] + rng.standard_normal(item.shape)
    popularity = np.log1p(earlier_clicks[period, item]) / np.log(20)
    score = LOUD * popularity + CHOSEN * preference + rng.gumbel(size=item.shape)
    score[world.released[item] > period] = -np.inf
    best = np.argpartition(-score, length, 1)[:, :length]
    return np.take_along_axis(item, rng.permuted(best, axis=1), 1)
