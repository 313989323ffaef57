"""`stillroom init` on logs of one's own, and what their columns are seen to be."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.init.draft import built
from pipeline.init.recsys import draft, roles_of
from pipeline.project.lineage import open_project
from tests.samples import write_movielens

CUSTOMERS, ITEMS = 60, 55


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_shop(folder, clicked=True, header="customer_id,sku,createdAt,clicked,bought,stars,score"):
    """Users of a shop and what they were shown, or clicked; of every fourth the stars; the score is no number."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = [header]
    for n in range(2500):
        whom, when = f"u{rng.integers(CUSTOMERS)},i{rng.integers(ITEMS)}", f"2024-01-{1 + n // 90:02}T00:{n % 60:02}"
        said = int(not clicked or n % 3 == 0), int(n % 9 == 0), n % 5 + 1 if n % 4 == 0 else ""
        lines.append(f"{whom},{when},{said[0]},{said[1]},{said[2]},a note")
    (folder / "log.csv").write_text("\n".join(lines))
    about = [f"i{n},c{n % 4},Thing {n},{n / 7}" for n in range(ITEMS)]
    (folder / "items.csv").write_text("\n".join(["sku,category,title,price", *about]))


def test_roles_follow_from_names():
    assert roles_of(["userId", "movieId", "rating", "timestamp"]) == {
        "user": "userId",
        "item": "movieId",
        "rating": "rating",
        "time": "timestamp",
    }
    plainest = {"time": "timestamp", "user": "user_id", "item": "item_id"}
    assert roles_of(["timestamp", "user_age", "user_id", "item_year", "item_id"]) == plainest
    assert roles_of(["visitorid", "itemid", "ts"]) == {"user": "visitorid", "item": "itemid", "time": "ts"}
    assert roles_of(["visitor", "article-id", "rated_at", "purchased"]) == {
        "user": "visitor",
        "item": "article-id",
        "time": "rated_at",
        "conversion": "purchased",
    }


@pytest.mark.parametrize("clicked", [True, False], ids=["shown and clicked", "clicked alone"])
def test_a_log_and_what_is_known_of_its_items(here, clicked):
    write_shop(here / "shop", clicked)
    params = draft(sorted(Path("shop").iterdir())).params
    source, teachers = params["prepare"]["source"], params["teachers"]
    columns = {"user": "customer_id", "item": "sku", "time": "createdAt"}
    assert source["columns"] == columns | {"click": "clicked", "conversion": "bought", "rating": "stars"}
    assert source["items"] == {"path": "shop/items.csv", "id": "sku", "columns": ["category"]}  # a title is no feature
    assert source["negatives"] == (0 if clicked else 10)
    assert {name: teacher["tasks"] for name, teacher in teachers.items()} == {
        "funnel": ["click", "conversion"],
        "rating": ["rating"],
    }
    assert teachers["funnel"]["encoder"]["item"] == [ITEMS + 1, 24, 5]


def test_events_tell_purchases_from_what_else_happened(here):
    """As RetailRocket and many shops have them."""
    rng, what = np.random.default_rng(0), ["view", "view", "addtocart", "transaction"]
    lines = [f"{1000 + n},{rng.integers(60)},{what[rng.integers(4)]},{rng.integers(55)},," for n in range(2500)]
    (here / "events.csv").write_text("\n".join(["timestamp,visitorid,event,itemid,transactionid,", *lines]))
    found = draft([Path("events.csv")])
    source = found.params["prepare"]["source"]
    assert source["columns"] == {"user": "visitorid", "item": "itemid", "time": "timestamp", "conversion": "event"}
    assert source["events"] == {"conversion": ["transaction"]} and found.params["tasks"].keys() == {"click", "conversion"}
    assert any(line.startswith("conversion: transaction in column 'event' (addtocart ") for line in found.said)
    split = built(source).splits()["transfer"]
    assert 0.3 < (split.labels["conversion"] == 1).sum() / (split.labels["click"] == 1).sum() < 0.4  # a pair has several events


def test_a_column_whose_values_do_not_fit_its_name_is_none_of_its_kind(here):
    write_shop(here / "shop", header="customer_id,sku,createdAt,clicked,x,order_stars,rating")
    columns = draft(sorted(Path("shop").iterdir())).params["prepare"]["source"]["columns"]
    assert columns.keys() == {"user", "item", "time", "click"}  # an order is 0 or 1, a rating a number


def test_numbers_of_users_that_are_numbers_of_items_too_are_told_by_name(here):
    write_shop(here / "shop")
    for path in (here / "shop").iterdir():
        path.write_text(path.read_text().replace("\nu", "\n").replace(",i", ",").replace("\ni", "\n"))
    (here / "shop/a.csv").write_text("\n".join(["customer,region", *(f"{n},{n % 3}" for n in range(CUSTOMERS))]))
    source = draft(sorted(Path("shop").iterdir())).params["prepare"]["source"]
    assert (source["users"]["path"], source["items"]["path"]) == ("shop/a.csv", "shop/items.csv")


def test_several_logs_are_one_line(here):
    write_shop(here / "shop")
    (here / "shop/more.csv").write_bytes((here / "shop/log.csv").read_bytes())
    with pytest.raises(ValueError, match=r"shop/log.csv, shop/more.csv: each looks like a log; join them"):
        draft(sorted(Path("shop").iterdir()))


def test_cells_between_semicolons_and_clicks_in_words(here):
    write_shop(here / "shop")
    for path in (here / "shop").iterdir():
        path.write_text(path.read_text().replace(",1,", ",True,").replace(",0,", ",False,").replace(",", ";"))
    made = draft(sorted(Path("shop").iterdir()))
    assert made.params["prepare"]["source"]["negatives"] == 0
    assert made.said[0] == "log: shop/log.csv, 2500 rows; columns that are not used: score"
    assert "items: shop/items.csv, category; columns that are not used: title, price" in made.said


def test_a_small_log_has_no_tests_of_new_users_and_items(here):
    write_shop(here / "shop")
    lines = (here / "shop/log.csv").read_text().splitlines()
    (here / "shop/log.csv").write_text("\n".join(lines[:40]))
    made = draft(sorted(Path("shop").iterdir()))
    assert made.params["prepare"]["source"]["cold"] == 0
    assert "too few users or items for tests of new ones: cold and new are 0" in made.said


def test_no_log():
    assert draft([]) is None


def test_a_project_of_movielens_is_whole(here, monkeypatch):
    write_movielens(here / "ml")
    done = CliRunner().invoke(main, ["init", "project", "--data", "ml"])
    assert done.exit_code == 0, done.output
    assert "found: MovieLens in ../ml" in done.output
    monkeypatch.chdir(here / "project")
    params = open_project()
    assert params.tasks.keys() == {"click", "conversion", "rating"} and params.students["popularity"].encoder
    assert yaml.safe_load(Path("dvc.yaml").read_text())["stages"]["prepare"]["deps"][0] == "../ml"
