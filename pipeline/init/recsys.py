"""First params of a project for one's own log: what its columns are, by their names and values."""

import re
from pathlib import Path
from typing import Any

from pipeline.init.beginning import Beginning, commented, first_params, four_students, set_sizes
from pipeline.project.commented import flow
from pipeline.sources.recsys.interaction_files import InteractionFiles
from pipeline.sources.recsys.movielens import MovieLens
from pipeline.sources.recsys.tables import Table, header_of, read_table

ROLES = {
    "user": {"user", "customer", "visitor", "member", "client", "reader", "session", "account", "person"},
    "item": {"item", "product", "movie", "sku", "article", "book", "song", "track", "asin", "offer", "page"},
    "time": {"time", "timestamp", "date", "datetime", "at", "when", "ts"},
    "click": {"click", "clicked", "viewed", "opened"},
    "conversion": {"conversion", "converted", "bought", "purchase", "purchased", "order", "ordered"},
    "rating": {"rating", "rated", "stars", "score"},
}
NEEDED = ("user", "item", "time")
SIDE = 200  # different values of a side feature, at most
NEGATIVES = 10
LIKED = 4  # stars
FEW = 50  # users, or items: of fewer none is kept from learning
LISTS = {"length": 20, "negatives": 0, "unlabelled": 1000, "views": 2, "val": 0.1, "test": 0.2, "cold": 0.1, "new": 0.1}
MOVIELENS = {"ratings.csv": "movies.csv", "ratings.dat": "movies.dat", "u.data": "u.item"}
RESPONSE = {"code": "pipeline/tasks/response.py", "class": "Response"}
TASKS = {
    "click": RESPONSE,
    "conversion": {**RESPONSE, "start": -3},  # among all that was shown
    "rating": {"code": "pipeline/tasks/rating.py", "class": "Rating"},
}
PASSES = 30
TOWERS = {"code": "pipeline/encoders/two_tower.py", "class": "TwoTower"}
COMMENTS = {
    "columns": "what each is called in the log",
    "length": "candidates a list",
    "negatives": "of them, drawn from what the user never met, where only what was clicked is logged; tell tasks the `rate`",
    "unlabelled": "lists of random candidates",
    "val": "share of the log, by time, and",
    "test": "share of it, the last",
    "cold": "of the users, and",
    "new": "of the items, that nothing learns from: tests of their own; 0: none",
}


def begin(files: list[Path]) -> Beginning | None:
    """Tasks and networks as in examples/recsys, which also has these rates; None if no file is a log. Raises ValueError."""
    found = movielens(files) or own_log(files)
    if not found:
        return None
    source, said = found
    splits = built(source).splits()
    transfer = splits["transfer"]
    sizes = {side: transfer.about[side]["sizes"] for side in ("user", "item")}
    params = first_params()
    params["prepare"]["source"] = commented(source, COMMENTS)
    params["tasks"] = {name: flow(task) for name, task in TASKS.items() if name in transfer.labels}
    towers = {**TOWERS, **sizes}
    funnel = [name for name in ("click", "conversion") if name in params["tasks"]]
    params["teachers"] = {
        name: {"tasks": flow(tasks), "encoder": flow({**towers, "width": 64, "dropout": 0.5})}
        for name, tasks in (("funnel", funnel), ("rating", ["rating"]))
        if tasks[0] in params["tasks"]
    }
    params["distill"]["encoder"] = flow({**towers, "width": 12})
    params["device"] = "cpu"  # networks this small gain nothing from a GPU
    for stage in ("train_teacher", "distill"):
        params[stage] |= {"learning_rate": 0.01, "weight_decay": 0.3}
    four_students(params, logits=1)
    buckets = {"code": "pipeline/encoders/popularity.py", "class": "Popularity", "buckets": sizes["item"][1]}
    params["students"]["popularity"] = flow({"reads": "transfer", "updates": 0, "weights": {"labels": 1}, "encoder": buckets})
    set_sizes(params, {task: transfer.labelled[task].sum() for task in params["tasks"]}, PASSES)
    said += [f"columns: user {sizes['user']}, item {sizes['item']} values, unknown among them"]
    return Beginning(params, said)


def built(source: dict[str, Any]) -> InteractionFiles | MovieLens:
    arguments = {key: value for key, value in source.items() if key not in ("code", "class")}
    return (MovieLens if source["class"] == "MovieLens" else InteractionFiles)(**arguments, seed=0)


def movielens(files: list[Path]) -> tuple[dict[str, Any], list[str]] | None:
    for path in files:
        if MOVIELENS.get(path.name) in {other.name for other in files if other.parent == path.parent}:
            source = {
                "code": "pipeline/sources/recsys/movielens.py",
                "class": "MovieLens",
                "path": str(path.parent),
                "liked": 4,
            }
            return source | LISTS | {"negatives": NEGATIVES}, [
                f"MovieLens in {path.parent}: a movie rated {source['liked']} is liked"
            ]
    return None


def own_log(files: list[Path]) -> tuple[dict[str, Any], list[str]] | None:
    """The first table with users, items and times, and what others say of these."""
    tables = [path for path in files if path.suffix in (".csv", ".parquet")]
    headers = {path: header_of(path) for path in tables}
    log = next((path for path in tables if set(NEEDED) <= roles_of(headers[path]).keys()), None)
    if not log:
        return None
    columns = roles_of(headers[log])
    table = read_table(log, list(columns.values()))
    for role in [role for role in columns if role not in NEEDED and not fits(table, columns[role], role)]:
        del columns[role]
    said = [f"log: {log}, {len(table)} rows; " + ", ".join(f"{role} is {name}" for role, name in columns.items())]
    sides: dict[str, dict[str, Any]] = {}
    for path in tables:
        if path != log and (found := side_of(read_table(path, headers[path]), table, columns)):
            sides.setdefault(*found)
            said.append(f"{found[0]}: {path}, {', '.join(found[1]['columns'])}")
    clicked = "click" in columns and "0" in table.columns[columns["click"]]
    many = {side: len(set(table.columns[columns[side]])) >= FEW for side in ("user", "item")}
    source: dict[str, Any] = {"code": "pipeline/sources/recsys/interaction_files.py", "class": "InteractionFiles"}
    source |= {"log": str(log), "columns": flow(columns), **{side: flow(about) for side, about in sides.items()}, **LISTS}
    source |= {"negatives": 0 if clicked else NEGATIVES}
    return source | {"cold": LISTS["cold"] * many["user"], "new": LISTS["new"] * many["item"]}, said


def roles_of(header: list[str]) -> dict[str, str]:
    """{role: column}, by the words in a column's name: userId, user_id, USER."""
    found: dict[str, str] = {}
    words = {name: {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)} for name in header}
    for role, known in ROLES.items():
        column = next((name for name in header if words[name] & known and name not in found.values()), None)
        if column:
            found[role] = column
    return found


def fits(table: Table, column: str, role: str) -> bool:
    """Whether a column's values are those of its role."""
    try:
        _ = table.numbers(column, low=0.01, gap=0.0) if role == "rating" else table.flags(column)
    except ValueError:
        return False
    return True


def side_of(table: Table, log: Table, columns: dict[str, str]) -> tuple[str, dict[str, Any]] | None:
    """Whether a table tells of the log's users, or of its items: a column has each of them, once."""
    for role in ("user", "item"):
        logged = set(log.columns[columns[role]])
        for name, values in table.columns.items():
            if len(set(values)) == len(values) and logged <= set(values):
                most = min(SIDE, len(values) // 2)  # a title or an address is no feature
                features = [column for column, x in table.columns.items() if 1 < len(set(x)) <= most]
                return (f"{role}s", {"path": str(table.path), "id": name, "columns": features}) if features else None
    return None
