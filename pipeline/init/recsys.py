"""First params of a project for your own log: what its columns are, by their names and values."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.init.draft import Draft, baseline, built, commented, first_params, set_sizes, students
from pipeline.init.label_columns import counted
from pipeline.project.commented import flow
from pipeline.sources.recsys.candidates import ID, UNKNOWN
from pipeline.sources.recsys.interaction_files import REQUIRED
from pipeline.sources.recsys.tables import Table, header_of, read_table

ROLES = {
    "user": {"user", "customer", "visitor", "member", "client", "reader", "session", "account", "person"},
    "item": {"item", "product", "movie", "sku", "article", "book", "song", "track", "asin", "offer", "page"},
    "time": {"time", "timestamp", "date", "datetime", "at", "when", "ts"},
    "click": {"click", "clicked", "viewed", "opened"},
    "conversion": {"conversion", "converted", "bought", "purchase", "purchased", "order", "ordered"},
    "rating": {"rating", "rated", "stars", "score"},
}
EVENT = {"event", "action", "behavior", "behaviour"}  # in the name of a column that says what happened
BOUGHT = {"purchase", "purchased", "transaction", "buy", "bought", "order", "ordered"}  # in such a column
SIDE = 200  # different values of a side feature, at most
NEGATIVES = 10
LIKED = 4  # stars
LISTS = {"length": 20, "negatives": 0, "unlabelled": 1000, "views": 2, "val": 0.1, "test": 0.2, "cold": 0.1, "new": 0.1}
MOVIELENS = {"ratings.csv": "movies.csv", "ratings.dat": "movies.dat", "u.data": "u.item"}
RESPONSE = {"code": "pipeline/tasks/response.py", "class": "Response"}
TASKS = {
    "click": RESPONSE,
    "conversion": {**RESPONSE, "start": -3},  # among all that was shown
    "rating": {"code": "pipeline/tasks/rating.py", "class": "Rating"},
}
PASSES = 30  # of a teacher over its labelled rows
POPULARITY = {"code": "pipeline/encoders/popularity.py", "class": "Popularity"}
TOWERS = {"code": "pipeline/encoders/two_tower.py", "class": "TwoTower"}
COMMENTS = {
    "columns": "the name of each in the log",
    "events": "which of its values are a conversion; whatever is logged is a click",
    "length": "candidates per list",
    "negatives": "of them, drawn from what the user never met, where only what was clicked is logged; tell tasks the `rate`",
    "unlabelled": "lists of random candidates",
    "val": "share of the log, by time, and",
    "test": "share of it, the last",
    "cold": "of the users, and",
    "new": "of the items, that nothing learns from: tests of their own; 0: none",
}


def draft(files: list[Path]) -> Draft | None:
    """Networks and rates as in examples/recsys; None if no file is a log. Raises ValueError."""
    source_and_messages = movielens(files) or own_log(files)
    if not source_and_messages:
        return None
    (source, messages), params = source_and_messages, first_params()
    try:
        splits = built(source).splits()
    except ValueError:
        source |= {"cold": 0.0, "new": 0.0}
        splits = built(source).splits()
        messages.append("too few users or items for tests of new ones: cold and new are 0")
    transfer, test = splits["transfer"], splits["test/clean"]
    share = np.mean(test.inputs["user"][:, ID] == UNKNOWN)
    messages += [f"test: {share:.0%} of its lists are of users who come up after all that is learned from"] if share else []
    sizes = {side: transfer.about[side]["sizes"] for side in ("user", "item")}
    params["prepare"]["source"] = commented(source, COMMENTS)
    params["tasks"] = {name: flow(task) for name, task in TASKS.items() if name in transfer.labels}
    tasks_by_teacher = {"funnel": [name for name in ("click", "conversion") if name in params["tasks"]], "rating": ["rating"]}
    params["teachers"] = {
        name: {"tasks": flow(tasks), "encoder": flow({**TOWERS, **sizes, "width": 64, "dropout": 0.5})}
        for name, tasks in tasks_by_teacher.items()
        if tasks[0] in params["tasks"]
    }
    params["distill"]["encoder"] = flow({**TOWERS, **sizes, "width": 12})
    params["device"] = "cpu"  # networks this small gain nothing from a GPU
    for stage in ("train_teacher", "distill"):
        params[stage] |= {"learning_rate": 0.01, "weight_decay": 0.3}
    updates = set_sizes(params, {task: transfer.labelled[task].sum() for task in params["tasks"]}, PASSES)
    params["students"] = students(updates, logits=1)
    params["students"]["popularity"] = baseline(updates, **POPULARITY, buckets=sizes["item"][1])
    return Draft(params, [*messages, f"columns: user {sizes['user']}, item {sizes['item']} values, unknown among them"])


def movielens(files: list[Path]) -> tuple[dict[str, Any], list[str]] | None:
    for path in files:
        if path.name in MOVIELENS and path.with_name(MOVIELENS[path.name]).exists():
            source = {"code": "pipeline/sources/recsys/movielens.py", "class": "MovieLens", "path": str(path.parent)}
            description = f"MovieLens in {path.parent}: what is rated {LIKED} or more is liked, a conversion"
            return source | {"liked": LIKED} | LISTS | {"negatives": NEGATIVES}, [description]
    return None


def own_log(files: list[Path]) -> tuple[dict[str, Any], list[str]] | None:
    """The table with users, items and times, and tables about these; and what is found, in words. Raises ValueError."""
    messages: list[str] = []
    headers = readable_headers([path for path in files if path.suffix.lower() in (".csv", ".tsv", ".parquet")], messages)
    logs = [path for path, header in headers.items() if set(REQUIRED) <= roles_of(header).keys()]
    if not logs:
        return None
    if len(logs) > 1:
        raise ValueError(f"{', '.join(map(str, logs))}: each looks like a log; join them, or leave one in this folder")
    (log,) = logs
    columns = roles_of(headers[log])
    table = read_table(log, list(columns.values()))
    unused_columns = [name for name in headers[log] if name not in columns.values()]
    messages.append(f"log: {log}, {len(table)} rows; columns that are not used: {', '.join(unused_columns) or 'none'}")
    for role, name in list(columns.items()):
        if role in REQUIRED or fits(table, name, role):
            messages.append(f"{role}: column {name!r}")
        else:
            expected = "a number above 0" if role == "rating" else "0 or 1"
            messages.append(f"column {name!r}: by its name a {role}, but not everywhere {expected}; left out")
            del columns[role]
    events = {} if "conversion" in columns else purchases(table, headers[log], columns, messages)
    sides = side_tables({path: header for path, header in headers.items() if path != log}, table, columns, messages)
    shows_unclicked = "click" in columns and not table.flags(columns["click"]).all()
    source = {"code": "pipeline/sources/recsys/interaction_files.py", "class": "InteractionFiles", "log": str(log)}
    arguments = {"columns": columns, **events, **sides, **LISTS, "negatives": 0 if shows_unclicked else NEGATIVES}
    return source | arguments, messages


def purchases(log: Table, header: list[str], columns: dict[str, str], messages: list[str]) -> dict[str, Any]:
    """{"events": ...} if a column tells purchases from other events; it is added to `columns` and reported in `messages`."""
    for column in [column for column in header if words_in(column) & EVENT and column not in columns.values()]:
        event_cells = read_table(log.path, [column]).columns[column]
        purchase_values = [value for value in dict.fromkeys(event_cells) if value.lower() in BOUGHT]
        if purchase_values and len(set(event_cells)) > len(purchase_values):
            columns["conversion"] = column
            messages.append(
                f"conversion: {' or '.join(purchase_values)} in column {column!r}{counted(event_cells)}; the others are clicks"
            )
            return {"events": {"conversion": purchase_values}}
    return {}


def readable_headers(paths: list[Path], messages: list[str]) -> dict[Path, list[str]]:
    headers = {}
    for path in paths:
        try:
            headers[path] = header_of(path)
        except ValueError as error:
            messages.append(f"{error}; left out")
    return headers


def side_tables(headers: dict[Path, list[str]], log: Table, columns: dict[str, str], messages: list[str]) -> dict[str, Any]:
    """{"users" or "items": the first table about them}; what is found, or left out, is added to `messages`."""
    sides: dict[str, Any] = {}
    for path, header in headers.items():
        try:
            side = side_of(read_table(path, header), log, columns)
        except ValueError as error:
            messages.append(f"{error}; left out")
            continue
        if side and side[0] not in sides:
            sides[side[0]] = side[1]
            spec = side[1]
            unused_columns = [name for name in header if name not in (spec["id"], *spec["columns"])]
            messages.append(
                f"{side[0]}: {path}, {', '.join(spec['columns'])}; "
                f"columns that are not used: {', '.join(unused_columns) or 'none'}"
            )
        else:
            messages.append(
                f"{path}: no column has each of the log's users, or items, once, beside columns of classes; left out"
            )
    return sides


def roles_of(header: list[str]) -> dict[str, str]:
    """{role: column}, by the words in a column's name: userId, user_id, USERID; of several the plainest: not user_age."""
    columns_by_role: dict[str, str] = {}
    for role, role_words in ROLES.items():
        columns = [column for column in header if words_in(column) & role_words and column not in columns_by_role.values()]
        if columns:
            columns_by_role[role] = min(
                columns, key=lambda column: len([word for word in parts(column) if not forms(word) & {*role_words, "id"}])
            )
    return columns_by_role


def words_in(name: str) -> set[str]:
    """A name's words in lower case, also without a final "id" or "s"."""
    return {form for word in parts(name) for form in forms(word)}


def parts(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]


def forms(word: str) -> set[str]:
    return {word, word.removesuffix("id"), word.removesuffix("s")}


def fits(table: Table, column: str, role: str) -> bool:
    """Whether a column's values are those of its role."""
    try:
        _ = table.numbers(column, low=0.01, gap=0.0) if role == "rating" else table.flags(column)
    except ValueError:
        return False
    return True


def side_of(table: Table, log: Table, columns: dict[str, str]) -> tuple[str, dict[str, Any]] | None:
    """What a table says of the log's users, or of its items, if a column has each of them once; else None."""
    for role, other_role in (("user", "item"), ("item", "user")):
        logged_ids = set(log.columns[columns[role]])
        for id_column, ids in table.columns.items():
            name_words = words_in(id_column) | words_in(table.path.stem)
            if name_words & ROLES[other_role] and not name_words & ROLES[role]:
                continue  # numbers of users may all be numbers of items as well
            if len(set(ids)) == len(ids) and logged_ids <= set(ids):
                most_values = min(SIDE, len(ids) // 2)  # a title or an address is no feature
                features = [column for column, cells in table.columns.items() if 1 < len(set(cells)) <= most_values]
                return (f"{role}s", {"path": str(table.path), "id": id_column, "columns": features}) if features else None
    return None
