"""MovieLens in each layout that it is distributed in, written small; malformed files are refused by file and line."""

import pytest

from pipeline.sources.recsys.movielens import MovieLens

SIZES = {"length": 4, "negatives": 0, "unlabelled": 0, "views": 1, "val": 0.2, "test": 0.2, "cold": 0.3, "new": 0.2, "seed": 0}
MOVIES = """movieId,title,genres
10,"American President, The (1995)",Comedy|Drama
2,Nowhere,(no genres listed)
"""
RATINGS = """userId,movieId,rating,timestamp
1,2,4.0,964982703
3,10,0.5,964981247
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def movielens(path="."):
    return MovieLens(path=path, liked=4, **SIZES)


def test_movielens_as_it_is_distributed(folder):
    (folder / "movies.csv").write_text(MOVIES)
    (folder / "ratings.csv").write_text(RATINGS)
    log = movielens().read_log()
    assert (log.user.tolist(), log.item.tolist()) == ([0, 1], [1, 0])
    assert log.time.tolist() == [964982703, 964981247]
    assert {task: x.tolist() for task, x in log.outcomes.items()} == {"click": [1, 1], "conversion": [1, 0], "rating": [4, 0.5]}
    assert log.items.tolist() == [[1, 1], [0, 0]]  # Comedy of the 1990s; nothing known


def test_the_oldest_movielens_knows_its_users(folder):
    genres = ["0"] * 19
    comedy, unknown = genres.copy(), genres.copy()
    comedy[5], unknown[0] = "1", "1"
    rows = [f"1|Toy Story (1995)|01-Jan-1995||http://x|{'|'.join(comedy)}", f"2|Caf\xe9|||y|{'|'.join(unknown)}"]
    (folder / "u.item").write_text("\n".join(rows), encoding="latin-1")
    (folder / "u.user").write_text("7|24|M|technician|85711\n5|53|F|other|94043\n")
    (folder / "u.data").write_text("7\t1\t3\t881250949\n5\t2\t5\t881250950\n")
    log = movielens().read_log()
    assert (log.user.tolist(), log.item.tolist()) == ([1, 0], [0, 1])
    assert log.users.tolist() == [[2, 1, 1], [1, 2, 2]]  # user 5, in his fifties, comes first
    assert log.items.tolist() == [[1, 1], [0, 0]]
    (folder / "u.data").write_text("7\t1\t3\t881250949\n5\t2\t9\t881250950\n")
    with pytest.raises(ValueError, match=r"u\.data, line 2: rating is '9', expected a number from 0.5 to 5"):
        movielens().read_log()
    (folder / "u.data").write_text("7\t1\t3\t881250949\n8\t2\t4\t881250950\n")
    with pytest.raises(ValueError, match=r"u\.data, line 2: user '8' is not in u\.user"):
        movielens().read_log()


def test_movielens_between_colons_with_its_users_and_without(folder):
    ratings = "7::10::4::978300760\n5::2::5::978302109\n"
    movies = '2::Caf\xe9: the film (1999)::Animation|Children\'s\n10::"Heat" (1995)::Action\n'
    (folder / "ratings.dat").write_text(ratings)
    (folder / "movies.dat").write_text(movies, encoding="latin-1")
    (folder / "users.dat").write_text("5::F::56::16::70072\n7::M::25::15::55117\n")
    log = movielens().read_log()
    assert (log.user.tolist(), log.item.tolist(), log.time.tolist()) == ([1, 0], [1, 0], [978300760, 978302109])
    assert log.item_names == ["Caf\xe9: the film (1999)", '"Heat" (1995)']
    assert log.items.tolist() == [[2, 1], [1, 1]] and log.users.tolist() == [[2, 1, 2], [1, 2, 1]]
    (folder / "users.dat").unlink()  # as 10M has it
    (folder / "movies.dat").write_text(movies, encoding="utf-8")
    (folder / "ratings.dat").write_text(ratings.replace("::4::", "::3.5::"))
    log = movielens().read_log()
    assert log.item_names[0] == "Caf\xe9: the film (1999)" and log.users.shape == (2, 0)
    assert log.outcomes["rating"].tolist() == [3.5, 5]
    (folder / "ratings.dat").write_text(ratings.replace("::978302109", ""))
    with pytest.raises(ValueError, match=r"ratings\.dat, line 2: 3 columns, expected 4"):
        movielens().read_log()


def test_a_folder_without_movielens_is_told_what_it_lacks(folder):
    with pytest.raises(
        ValueError, match=r"\.: no MovieLens is here; expected ratings\.csv, ratings\.dat, u\.data, one of them"
    ):
        movielens().read_log()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ratings.csv", RATINGS + "3,10,five,1\n", r"ratings\.csv, line 4: rating is 'five'"),
        ("ratings.csv", RATINGS + "3,11,5,1\n", r"ratings\.csv, line 4: item '11' is not in movies\.csv"),
        ("movies.csv", MOVIES + '7,"No end\n', r"movies\.csv, line 4"),
        ("movies.csv", MOVIES + MOVIES.splitlines(True)[-1], r"movies\.csv: 3 rows of 2 different item; expected each once"),
    ],
)
def test_malformed_movielens_is_refused_by_file_and_line(folder, file, text, message):
    (folder / "movies.csv").write_text(MOVIES)
    (folder / "ratings.csv").write_text(RATINGS)
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        movielens().read_log()
