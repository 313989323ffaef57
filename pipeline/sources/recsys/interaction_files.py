"""Your own log, as CSV or Parquet, and tables of what is known of users and items."""

from pathlib import Path
from typing import Any, final

import numpy as np

from pipeline.project.class_spec import Count
from pipeline.sources.recsys.candidates import RESPONSES
from pipeline.sources.recsys.list_maker import Log
from pipeline.sources.recsys.logged import LoggedCandidates
from pipeline.sources.recsys.tables import Table, codes, read_table

REQUIRED = ("user", "item", "time")
OUTCOMES = (*RESPONSES, "rating")


@final
class InteractionFiles(LoggedCandidates):
    """log: a file with one row per interaction. columns: {role: the name of its column}, for "user", "item", "time", and those
    of the outcomes that there are: "click", "conversion" (0 or 1), "rating" (above 0; empty where there is none).

    events: {"click" or "conversion": values}: if a column says what happened (view, cart, purchase), the values that are one.
    users, items: {"path", "id": its column, "columns": side features, as they are; an item's category first}. Paths are
    relative to the project. Without a click column whatever is logged counts as a click. Others: LoggedCandidates.
    """

    def __init__(
        self,
        *,
        log: str,
        columns: dict[str, str],
        events: dict[str, list[str]] | None = None,
        users: dict[str, Any] | None = None,
        items: dict[str, Any] | None = None,
        length: Count,
        negatives: int,
        unlabelled: int,
        views: Count,
        val: float,
        test: float,
        cold: float,
        new: float,
        seed: int,
    ):
        sizes = {"length": length, "negatives": negatives, "unlabelled": unlabelled, "views": views}
        super().__init__(**sizes, val=val, test=test, cold=cold, new=new, seed=seed)
        for name in REQUIRED:
            if name not in columns:
                raise ValueError(f"columns.{name}: missing; name the column of {log} that holds it")
        for name in columns:
            if name not in (*REQUIRED, *OUTCOMES):
                raise ValueError(f"columns.{name}: unknown; expected {', '.join((*REQUIRED, *OUTCOMES))}")
        for name in events or {}:
            if name not in RESPONSES or name not in columns:
                raise ValueError(f"events.{name}: expected one of {', '.join(RESPONSES)} that columns names too")
        for what, spec in {"users": users, "items": items}.items():
            if spec and spec.keys() != {"path", "id", "columns"}:
                raise ValueError(f"{what}: expected path, id and columns, found {', '.join(spec)}")
            if spec and not (isinstance(spec["columns"], list) and spec["columns"]):
                raise ValueError(f"{what}.columns: expected a list of at least one, found {spec['columns']!r}")
        self.log, self.columns, self.events = Path(log), columns, events or {}
        self.side = {"user": users, "item": items}

    def read_log(self) -> Log:
        table = read_table(self.log, list(self.columns.values()))
        (user, users, user_names), (item, items, item_names) = (self.known(table, *side) for side in self.side.items())
        outcomes = {task: self.responses(table, task) for task in RESPONSES if task in self.columns}
        outcomes.setdefault("click", np.ones(len(table)))
        if "rating" in self.columns:
            outcomes["rating"] = table.numbers(self.columns["rating"], low=0.01, gap=0.0)
        return Log(user, item, table.times(self.columns["time"]), outcomes, users, items, user_names, item_names)

    def responses(self, table: Table, task: str) -> np.ndarray:
        """Each 0 or 1: (N,)."""
        if task not in self.events:
            return table.flags(self.columns[task])
        return np.isin(table.texts(self.columns[task]), self.events[task]).astype(float)

    def known(self, table: Table, side: str, spec: dict[str, Any] | None) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Numbers from 0 of the log's users or items, side features and names of all; an item without any has category 0."""
        column = self.columns[side]
        if not spec:
            numbers, (_, *names) = codes(table.texts(column))
            return numbers - 1, np.zeros((len(names), 1 if side == "item" else 0), np.int64), names
        side_table = read_table(Path(spec["path"]), [spec["id"], *spec["columns"]])
        side_features = np.stack([codes(side_table.columns[name])[0] for name in spec["columns"]], 1)
        return side_table.rows_of(spec["id"], table, column), side_features, side_table.columns[spec["id"]]
