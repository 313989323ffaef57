import pytest

from pipeline.project.class_spec import CLONE
from pipeline.project.validation import load_params
from pipeline.reports.page import explained, meanings, notes, show, tables, write
from pipeline.reports.summary import Ledger
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.rating import Rating


class LowerIsBetter(MultiLabel):
    primary, higher_is_better = "error", False


TASKS = {"a": MultiLabel(classes=2), "b": LowerIsBetter(classes=2)}
POINTS = dict.fromkeys(("a", "b", "average", "delta_mtl", "noisy", "count@20", "clean: a recall"), (50.0, 2.0))
WEAK = "teacher t is too weak: 1 & 2"


@pytest.fixture
def params():
    return load_params(CLONE / "params.yaml")


@pytest.fixture
def spent():
    quality = {"pca": {"r2": {"t/x": 0.9}, "effective_rank": 3.0}}
    return Ledger(1, 2, 3, 4, 5, 6, {"labels": 7.0}, 0.1, {"labels": 0.0}, quality)


def test_columns_name_their_metric_and_what_needs_a_sentence_has_one(params, spent):
    found = tables(params, TASKS, {"detection": {"a": (60.0, 0.0)}}, {"labels": POINTS}, spent)
    scores, teacher, *_ = found["Scores (points: 100 x metric)"]
    assert teacher[:3] == ["teacher detection", str(params.teachers["detection"].updates), "60.0"]
    assert scores == ["", "updates", "a (macro_AP)", "b (error, lower is better)", "average", "delta_mtl", "test/noisy"]
    said = meanings(params, TASKS, {params.report.baseline: POINTS | {"b": (0.0, 0.0)}}, found)
    lines = [line for head, *_ in found.values() for line in explained(head, said)]
    assert [line.partition(":")[0] for line in lines] == ["average", "delta_mtl", "test/noisy", "effective rank"]
    assert lines[0].startswith("average: mean over its own tasks, b as negative numbers; like every column")
    assert f"over student {params.report.baseline}, in percent of its score; without b, where that is 0" in lines[1]


def test_what_is_no_share_is_shown_as_it_is(params, spent):
    row = {"stars": (80.0, 1.0), "clean: stars RMSE": (0.7254, 0.0126)}
    found = tables(params, {"stars": Rating()}, {}, {"labels": row}, spent)
    assert found["Other metrics on test/clean (100 x, but for stars RMSE)"] == [["", "stars RMSE"], ["labels", "0.725 +-0.013"]]
    assert "Other metrics on test/clean (100 x)" in tables(params, TASKS, {}, {"labels": POINTS}, spent)


@pytest.mark.parametrize(
    ("seeds", "said"), [(1, ["One student seed, of", ", 1 seed"]), (3, ["over 3 student seeds", ", 3 seeds"])]
)
def test_seeds_are_counted_in_words(params, spent, seeds, said):
    params = params.model_copy(update={"distill": params.distill.model_copy(update={"seeds": seeds})})
    text = str([*notes(params, [], spent), tables(params, TASKS, {}, {"labels": POINTS}, spent)])
    assert all(part in text for part in said) and "1 seeds" not in text


def test_terminal_and_page_say_the_same(params, spent, tmp_path, capsys):
    found, said = tables(params, TASKS, {}, {"labels": POINTS}, spent), notes(params, [WEAK], spent)
    show(found, meanings(params, TASKS, {params.report.baseline: POINTS}, found), said)
    write(tmp_path / "index.html", found, meanings(params, TASKS, {params.report.baseline: POINTS}, found), said, {})
    terminal, page = (" ".join(x.split()) for x in (capsys.readouterr().out, (tmp_path / "index.html").read_text()))
    for line in ("delta_mtl: mean over tasks", "test/noisy: average on", "effective rank: in how many", "Equal updates are"):
        assert line in terminal and line in page
    assert WEAK in terminal and "<p class=weak>teacher t is too weak: 1 &amp; 2</p>" in page
    assert "bench" not in terminal + page


def test_the_page_needs_no_network_and_escapes_what_it_shows(tmp_path):
    (tmp_path / "p.png").write_bytes(b"png")
    write(
        tmp_path / "index.html",
        {"Scores": [["", "a<b"], ["x", "1"]]},
        {"a<b": "<"},
        ["note & `more`: 1 +-2"],
        {tmp_path / "p.png": ("Learning", "> c")},
    )
    text = (tmp_path / "index.html").read_text()
    assert "a&lt;b" in text and "a&lt;b: &lt;." in text and "<p>&gt; c</p>" in text
    assert "<p>note &amp; <code>more</code>: 1 &plusmn;2</p>" in text and "<h2>Learning</h2>" in text
    assert "data:image/png;base64" in text and "http" not in text
