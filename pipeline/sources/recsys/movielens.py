"""MovieLens as it is distributed: ratings.csv and movies.csv (latest, 20M, 25M, 32M); ratings.dat and movies.dat (10M), with
users.dat (1M); u.data, u.item and u.user (100K)."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np

from pipeline.project.class_spec import Count
from pipeline.sources.recsys.list_maker import Log
from pipeline.sources.recsys.logged import LoggedCandidates
from pipeline.sources.recsys.tables import Table, codes, read_lines, read_table

YEAR = re.compile(r"\((\d{4})\)\s*$")
GENRES = 19
NONE = ("(no genres listed)", "")
RATING = ["userId", "movieId", "rating", "timestamp"]
MOVIE = ["movieId", "title", "genres"]

Tables = tuple[Table, Table, Table | None]  # ratings, movies, users


@final
class MovieLens(LoggedCandidates):
    """path: the folder. Tasks: rating in stars; click: rated at all, against sampled negatives; conversion: rated >= `liked`.

    A movie's columns are its first genre and its decade; a user's are age in tens, gender and occupation where these are
    known, as in 100K and 1M, else none. Others: LoggedCandidates.
    """

    def __init__(
        self,
        *,
        path: str,
        liked: float,
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
        self.path, self.liked = Path(path), liked

    def read_log(self) -> Log:
        ratings, movies, users = layout_of(self.path)(self.path)
        stars, (user, (_, *names)) = ratings.numbers("rating", 0.5, 5), codes(ratings.texts("user"))
        items = np.stack([codes(movies.columns[name])[0] for name in ("genre", "decade")], 1)
        outcomes = {"click": np.ones(len(stars)), "conversion": (stars >= self.liked) * 1.0, "rating": stars}
        user_features = people(users, ratings) if users else np.zeros((len(names), 0), np.int64)
        item = movies.rows_of("item", ratings, "item")
        return Log(user - 1, item, ratings.times("time"), outcomes, user_features, items, names, movies.columns["title"])


def layout_of(path: Path) -> Callable[[Path], Tables]:
    layouts = {"ratings.csv": newer, "ratings.dat": older, "u.data": oldest}
    for name, read in layouts.items():
        if (path / name).exists():
            return read
    raise ValueError(
        f"{path}: no MovieLens is here; expected {', '.join(layouts)}, one of them, as they come out of the archive"
    )


def newer(path: Path) -> Tables:
    ratings, movies = read_table(path / "ratings.csv", RATING), read_table(path / "movies.csv", MOVIE)
    return renamed(ratings), with_genres(movies), None


def older(path: Path) -> Tables:
    users_path, user_columns = path / "users.dat", ["id", "gender", "age", "occupation"]
    users = read_lines(users_path, "::", user_columns, header=False) if users_path.exists() else None
    movies = read_lines(path / "movies.dat", "::", MOVIE, header=False, encoding="latin-1" if users else "utf-8")  # 1M, 10M
    return renamed(read_lines(path / "ratings.dat", "::", RATING, header=False)), with_genres(movies), users


def oldest(path: Path) -> Tables:
    ratings = read_lines(path / "u.data", "\t", RATING, header=False)
    item_columns = ["item", "title", "released", "video", "url", *(f"genre {n}" for n in range(GENRES))]
    movies = read_lines(path / "u.item", "|", item_columns, header=False, encoding="latin-1")
    flags = np.stack([movies.numbers(f"genre {n}", 0, 1) for n in range(GENRES)], 1)
    flags[:, 0] = 0  # the first genre is "unknown"
    first_genres = [str(row.argmax()) if row.any() else "" for row in flags]
    columns = {"item": movies.columns["item"], "genre": first_genres, **titled(movies)}
    users = read_lines(path / "u.user", "|", ["id", "age", "gender", "occupation"], header=False)
    return renamed(ratings), Table(movies.path, columns, movies.lines), users


def with_genres(movies: Table) -> Table:
    first_genres = ["" if genres in NONE else genres.split("|")[0] for genres in movies.columns["genres"]]
    return Table(movies.path, {"item": movies.columns["movieId"], "genre": first_genres, **titled(movies)}, movies.lines)


def renamed(ratings: Table) -> Table:
    roles = dict(zip(RATING, ("user", "item", "rating", "time"), strict=True))
    return Table(ratings.path, {roles[name]: cells for name, cells in ratings.columns.items()}, ratings.lines)


def titled(movies: Table) -> dict[str, list[str]]:
    titles = movies.columns["title"]
    return {"title": titles, "decade": [match[1][:3] if (match := YEAR.search(title)) else "" for title in titles]}


def people(table: Table, ratings: Table) -> np.ndarray:
    """Side features of those who rate, in the order of their numbers."""
    ages = [str(int(age) // 10) for age in table.numbers("age", 0, 150)]
    features = np.stack([codes(values)[0] for values in (ages, table.columns["gender"], table.columns["occupation"])], 1)
    _, first = np.unique(codes(ratings.columns["user"])[0], return_index=True)
    return features[table.rows_of("id", ratings, "user")[first]]
