"""Logs of one's own: exact values, and malformed ones refused by file and line with nothing half-loaded."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.sources.recsys.candidates import ID, POPULARITY
from pipeline.sources.recsys.interaction_files import InteractionFiles
from pipeline.sources.recsys.list_maker import END, ListMaker
from pipeline.sources.recsys.tables import read_table

COLUMNS = {"user": "who", "item": "what", "time": "at", "click": "clicked", "rating": "stars"}
SIZES = {"length": 4, "negatives": 0, "unlabelled": 0, "views": 1, "val": 0.2, "test": 0.2, "cold": 0.3, "new": 0.2, "seed": 0}
LOG = """who,what,at,clicked,stars
ann,tea,2024-01-01T00:00,1,4.5
bob,"cake, plain",1704067260,0,
ann,"cake, plain",2024-01-01T00:02:00+00:00,1,
"""
ITEMS = """what,kind,price
tea,drink,2
"cake, plain",food,
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "items.csv").write_text(ITEMS)
    return tmp_path


def source(log="log.csv", **changes):
    items = {"path": "items.csv", "id": "what", "columns": ["kind", "price"]}
    return InteractionFiles(**{"log": log, "columns": COLUMNS, "items": items, **SIZES, **changes})


def check_values(log):
    assert log.user.tolist() == [0, 1, 0]
    assert log.item.tolist() == [0, 1, 1]
    assert (log.time - log.time[0]).tolist() == [0, 60, 120]
    assert {task: x.tolist() for task, x in log.outcomes.items()} == {"click": [1, 0, 1], "rating": [4.5, 0, 0]}
    assert log.items.tolist() == [[1, 1], [2, 0]]  # drink and food; what is empty is unknown
    assert log.users.shape == (2, 0)
    assert (log.user_names, log.item_names) == (["ann", "bob"], ["tea", "cake, plain"])


def test_csv_loads_with_exact_values(folder):
    check_values(source().read_log())


def test_parquet_holds_the_same(folder):
    rows = {
        "who": ["ann", "bob", "ann"],
        "what": ["tea", "cake, plain", "cake, plain"],
        "at": [1704067200, 1704067260, 1704067320],
        "clicked": [True, False, True],
        "stars": [4.5, None, None],
    }
    pq.write_table(pa.table(rows), folder / "log.parquet")
    check_values(source("log.parquet").read_log())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bob,", ",", "log.csv, line 3: who is empty"),
        ("1704067260,0", "noon,0", "log.csv, line 3: at is 'noon', expected seconds, or a date"),
        ("1,4.5", "2,4.5", "log.csv, line 2: clicked is '2', expected 0 or 1"),
        ("1,4.5", "0.6,4.5", "log.csv, line 2: clicked is '0.6', expected 0 or 1"),
        ("4.5", "nan", "log.csv, line 2: stars is 'nan'"),
        ("4.5", "0", "log.csv, line 2: stars is '0', expected a number from 0.01"),
        ("4.5", "-1", "log.csv, line 2: stars is '-1', expected a number from 0.01"),
        (",1,4.5", ",1", "log.csv, line 2: 4 columns, expected 5"),
        ('"cake, plain",1704067260', "cake, plain,1704067260", "log.csv, line 3: 6 columns, expected 5"),
        ("who,what", "who,who", "log.csv: 2 columns are called 'who'; rename all but one"),
        ("tea", "milk", "log.csv, line 2: what 'milk' is not in items.csv"),
        ("clicked", "hit", "log.csv: no column 'clicked'; there are who, what, at, hit, stars"),
        (LOG.partition("\n")[2], "", "log.csv: no rows"),
    ],
)
def test_a_malformed_log_is_refused_by_file_and_line(folder, old, new, message):
    (folder / "log.csv").write_text(LOG.replace(old, new))
    with pytest.raises(ValueError, match=message):
        source().read_log()


def test_other_files_are_refused_in_a_line(folder):
    (folder / "log.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"log\.csv: cannot be read as text"):
        source().read_log()
    (folder / "log.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"log\.parquet: cannot be read as Parquet"):
        source("log.parquet").read_log()
    (folder / "items.csv").write_text(ITEMS + "tea,drink,3\n")
    (folder / "log.csv").write_text(LOG)
    with pytest.raises(ValueError, match=r"items\.csv: 3 rows of 2 different what"):
        source().read_log()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"user": "who", "item": "what"}}, "columns.time: missing"),
        ({"columns": COLUMNS | {"buy": "x"}}, "columns.buy: unknown; expected user"),
        ({"events": {"conversion": ["buy"]}}, "events.conversion: expected one of click, conversion that columns names too"),
        ({"events": {"rating": ["buy"]}}, "events.rating: expected one of click, conversion"),
        ({"negatives": 4}, "negatives: 4, expected from 0 to below the length of 4"),
        ({"val": 0.5, "test": 0.5}, "val [+] test: 1.0, expected a share"),
        ({"test": 0.0}, "test: 0.0, expected a share between 0 and 1; of cold and new also 0"),
        (
            {"items": {"path": "i.csv", "id": "what", "columns": "kind"}},
            "items.columns: expected a list of at least one, found 'kind'",
        ),
        ({"users": {"path": "i.csv", "id": "what", "columns": []}}, "users.columns: expected a list of at least one"),
        (
            {"users": {"path": "i.csv", "id": "what", "column": "kind"}},
            "users: expected path, id and columns, found path, id, column",
        ),
    ],
)
def test_arguments_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        source(**change)


@pytest.fixture
def many(folder):
    """Forty users who click on items of thirty, one a minute."""
    rng = np.random.default_rng(0)
    lines = [f"u{rng.integers(40)},i{rng.integers(30)},{60 * n},{rng.integers(2)},{rng.integers(1, 6)}" for n in range(1500)]
    (folder / "log.csv").write_text("who,what,at,clicked,stars\n" + "\n".join(lines) + "\n")
    return source(items=None, length=6, negatives=2, unlabelled=20, views=2)


def test_a_single_new_item_leaves_no_negatives_and_is_refused(many):
    log = many.read_log()
    drawn = np.random.default_rng(0)
    drawn.random(len(log.users))
    many.new = drawn.random(len(log.items)).min() + 1e-9  # of the items one is new
    with pytest.raises(ValueError, match="test/new_items: a single item"):
        many.divided(log, np.random.default_rng(0))


def test_cold_users_or_new_items_may_be_left_out(many):
    many.cold = many.new = 0
    rows = many.divided(many.read_log(), np.random.default_rng(0))
    assert sum(flag.sum() for flag in rows.values()) == 1500  # nothing is kept from learning for a test that there is not
    assert many.splits().keys() == rows.keys() == {"transfer", "val", "test/clean"}


def test_what_leaves_a_split_empty_is_told_by_its_cause(many):
    log = many.read_log()
    with pytest.raises(ValueError, match="time: 1500 interactions at 1 different times, which leave none for learning, val or"):
        many.divided(replace(log, time=np.full(1500, 7.0)), np.random.default_rng(0))
    alone = replace(log, user=np.zeros(1500, int), users=log.users[:1], user_names=["u0"])
    with pytest.raises(
        ValueError, match="test/cold_users: no interaction falls into it, of 1 users, 0 of them cold, and 30 items"
    ):
        many.divided(alone, np.random.default_rng(0))


def test_an_outcome_that_never_comes_is_refused(many):
    log = many.read_log()
    many.read_log = lambda: replace(log, outcomes={**log.outcomes, "conversion": np.zeros(len(log.user))})
    with pytest.raises(ValueError, match="conversion: no interaction that is learned from has any"):
        many.splits()


def test_lists_are_divided_by_time_and_what_is_cold_or_new_kept_from_learning(many):
    log, splits = many.read_log(), many.splits()
    assert set(splits) == {"transfer", "val", "test/clean", "test/cold_users", "test/new_items"}
    assert not splits["test/cold_users"].inputs["user"].any()
    assert splits["test/clean"].inputs["user"].all() and splits["test/new_items"].inputs["user"].all()
    ids = {name: split.inputs["item"][:, ID][split.inputs["mask"]] for name, split in splits.items()}
    assert not ids["test/new_items"].any()  # neither what was shown, nor what was sampled, so that no id gives it away
    assert ids["test/clean"].all() and ids["test/cold_users"].all() and (ids["transfer"] == 0).mean() < 0.1  # hidden values
    clicks = {name: splits[name].labels["click"][..., 0] for name in splits if name != "transfer"}
    logged = sum((x >= 0).sum() - 2 * len(x) for x in clicks.values())  # two of a list were sampled
    assert logged < len(log.user) * 0.4
    assert (clicks["test/clean"] == 1).sum() > 0
    mask = splits["test/clean"].inputs["mask"]
    np.testing.assert_array_equal(mask, clicks["test/clean"] >= 0)
    assert not splits["test/clean"].inputs["item"].transpose(0, 2, 1)[~mask].any()


def test_a_user_is_read_with_what_they_never_met(many):
    log = many.read_log()
    ((_, row),) = many.read("u7")
    met = {log.item_names[i] for i in log.item[log.user == log.user_names.index("u7")]}
    assert set(row["name"]) == set(log.item_names) - met and len(row["name"]) == row["item"].shape[1]
    told = {name: number for name, number in zip(row["name"], row["item"][ID], strict=True) if number}
    assert told and all(log.item_names[number - 1] == name for name, number in told.items())
    learned = many.divided(log, np.random.default_rng(0))["transfer"]
    wanted = [buckets(log, learned, log.item_names.index(name), np.inf) for name in row["name"]]
    assert row["item"][POPULARITY].tolist() == wanted and len(set(wanted)) > 1
    best = {"click": {"list": [(2, 0.5), (0, 0.25)]}}
    assert many.words(row, best) == f"click: {row['name'][2]} (0.50), {row['name'][0]} (0.25)"
    with pytest.raises(ValueError, match="'nobody': no such user; expected one as in the log, such as 'u0'"):
        many.read("nobody")


def buckets(log, learned, item, time):
    """Of an item's popularity at a time, of pairs of users and items one by one."""
    first = {}
    for row in np.argsort(log.time, kind="stable"):
        if log.outcomes["click"][row]:
            first.setdefault((log.user[row], log.item[row]), row)
    before = [pair for pair, row in first.items() if log.time[row] < time]
    enough = sum(learned[row] for row in first.values())
    seen = sum(i == item for _, i in before) * enough / max(len(before), enough / 8)
    return int(1 + min(22, 2 * np.log2(1 + seen)))


def test_popularity_is_of_who_clicked_before_a_list_begins_as_a_share_of_all_clicks(many):
    log = many.read_log()
    learned = log.time < 60_000
    maker = ListMaker(log, learned, 6, 0, np.random.default_rng(0))
    lists = maker.lists(log.user == 4, log.user >= 0, log.user >= 0)
    _, first = np.unique(log.item[log.user == 4], return_index=True)
    begin = np.sort(log.time[log.user == 4][first])[::6]
    wanted = [[buckets(log, learned, i, t) for i in row] for row, t in zip(lists.number, begin, strict=True)]
    exists = lists.click >= 0
    assert len(begin) > 2 and lists.item[:, POPULARITY][exists].tolist() == np.array(wanted)[exists].tolist()


def test_a_log_that_goes_on_as_before_makes_no_item_more_popular_than_any_that_was_learned_of(folder):
    """An item that half of the users meet, in 20 times the time that is learned from; by count it would go up 8 buckets."""
    rng = np.random.default_rng(0)
    lines = [f"u{n},i{0 if n % 2 else 1 + rng.integers(50)},{n},1,3" for n in range(4000)]
    (folder / "log.csv").write_text("who,what,at,clicked,stars\n" + "\n".join(lines) + "\n")
    log = source(items=None).read_log()
    maker = ListMaker(log, log.time < 200, 6, 0, np.random.default_rng(0))
    popular = np.array([[log.item_names.index("i0")]])
    assert {int(maker.popularity(popular, np.array([time]))[0, 0]) for time in (100, 199, 400, 4000)} == {14}


def test_who_views_and_then_buys_has_the_item_once(folder):
    rows = ["ann,tea,1,view", "ann,milk,2,view", "ann,tea,3,buy", "bob,tea,4,buy", "bob,tea,5,view", "bob,milk,6,view"]
    (folder / "log.csv").write_text("who,what,at,event\n" + "\n".join(rows) + "\n")
    columns = {"user": "who", "item": "what", "time": "at", "conversion": "event"}
    log = source(items=None, columns=columns, events={"conversion": ["buy"]}).read_log()
    every = np.ones(6, bool)
    lists = ListMaker(log, every, 3, 0, np.random.default_rng(0)).lists(every, every, every)
    tea, milk = (log.item_names.index(name) for name in ("tea", "milk"))
    assert [row[click >= 0].tolist() for row, click in zip(lists.number, lists.click, strict=True)] == [[tea, milk]] * 2
    assert lists.conversion.tolist() == [[1, 0, -1]] * 2  # also where the last that happened was a view


def test_unknown_items_are_clicked_on_or_not_in_tests(folder):
    """Half of the items come up in the last fifth alone: were negatives of learned items, an unknown one would be a click."""
    rng = np.random.default_rng(0)
    lines = [f"u{rng.integers(20)},i{rng.integers(40 if n < 800 else 80)},{n},1,3" for n in range(1000)]
    (folder / "log.csv").write_text("who,what,at,clicked,stars\n" + "\n".join(lines) + "\n")
    test = source(items=None, length=8, negatives=4, new=0, cold=0).splits()["test/clean"]
    unknown = (test.inputs["item"][:, ID] == 0) & (test.labels["click"][..., 0] >= 0)
    assert 0.2 < test.labels["click"][..., 0][unknown].mean() < 0.8


def test_negatives_do_not_tell_what_is_met_later(folder):
    """Users meet 60 of 100 items at random: whether one was ever a negative for them says nothing of later ones."""
    rng = np.random.default_rng(0)
    lines = [(user, item, rng.random()) for user in range(100) for item in rng.permutation(100)[:60]]
    (folder / "log.csv").write_text("who,what,at,clicked,stars\n" + "".join(f"u{u},i{i},{at},1,3\n" for u, i, at in lines))
    splits = source(items=None, length=20, negatives=16, val=0.1, new=0.15, cold=0.05).splits()
    refused = {(u, i) for u, i, click in triples(splits["transfer"]) if click == 0}
    for name in ("val", "test/clean"):
        shares = [np.mean([(u, i) in refused for u, i, click in triples(splits[name]) if click == met]) for met in (0, 1)]
        assert abs(shares[0] - shares[1]) < 0.03, name


def triples(split):
    """(user, item, clicked) of every candidate that exists."""
    click, item, _ = np.moveaxis(split.labels["click"], -1, 0).astype(int)
    user = np.broadcast_to(split.inputs["user"][:, :1], click.shape)
    return [(u, i, c) for u, i, c in zip(user.flat, item.flat, click.flat, strict=True) if c >= 0]


def test_negatives_are_items_that_the_user_never_met(folder):
    (folder / "log.csv").write_text(
        "who,what,at,clicked,stars\n" + "".join(f"ann,i{n},{n},1,3\n" for n in range(8)) + "bob,i9,9,1,3\n"
    )
    log = source(items=None).read_log()
    maker = ListMaker(log, np.ones(9, bool), 6, 3, np.random.default_rng(0))
    lists = maker.lists(log.user == 0, log.user >= 0, log.user >= 0)
    assert lists.number[lists.click == 0].tolist() == [8] * (lists.click == 0).sum()  # the one that ann never met
    assert (lists.click == 1).sum() == 8 and not lists.rating[lists.click == 0].any()


def test_whoever_met_nothing_may_be_given_anything_and_whoever_met_all_is_given_nothing(folder):
    (folder / "log.csv").write_text("who,what,at,clicked,stars\n" + "".join(f"ann,i{n},{n},1,3\n" for n in range(3)))
    maker = ListMaker(source(items=None).read_log(), np.ones(3, bool), 3, 2, np.random.default_rng(0))
    user, pool = np.zeros(50, int), np.arange(3)
    none = np.zeros((50, 0), int)
    assert set(maker.draw_negatives(user, pool, np.array([END]), none)) == {0, 1, 2}
    assert set(maker.draw_negatives(user, pool, np.array([0, 1, 2, END]), none)) == {-1}


def test_no_item_is_twice_in_a_list(many):
    """Of thirty items, where draws that know nothing of each other would repeat most."""
    many.length, many.negatives = 12, 8
    for name, split in many.splits().items():
        rows = split.labels["click"][split.labelled["click"]] if name == "transfer" else split.labels["click"]
        for click, item, _ in np.moveaxis(rows, -1, 1):
            assert len(set(item[click >= 0])) == (click >= 0).sum(), name
    random = ListMaker(many.read_log(), np.ones(1500, bool), 12, 8, np.random.default_rng(0)).random(50)
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() >= 8 for row in np.where(random.click >= 0, random.number, -1))


def test_ids_of_what_was_never_learned_are_unknown(many):
    log = many.read_log()
    learned = (log.item != 5) & (log.user != 2)
    lists = ListMaker(log, learned, 6, 0, np.random.default_rng(0)).lists(log.user >= 0, learned, learned)
    exists = lists.click >= 0
    np.testing.assert_array_equal(lists.item[:, ID][exists] == 0, (lists.number == 5)[exists])
    assert (lists.user[:, 0] == 0).any() and set(lists.user[:, 0]) == {0, *range(1, 41)} - {3}


def test_a_cell_may_be_of_any_length(tmp_path):
    (tmp_path / "log.csv").write_text(f"user,said\n1,{'x' * 200_000}\n")
    assert read_table(tmp_path / "log.csv", ["user"]).columns == {"user": ["1"]}
