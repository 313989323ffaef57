import pytest

from pipeline.reports.summary import as_metrics, delta_mtl, ledger, other_metrics, student_rows, val_curves, weak_teachers
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.rating import Rating


class LowerIsBetter(MultiLabel):
    primary, higher_is_better = "error", False


TASKS = {"a": MultiLabel(classes=2), "b": LowerIsBetter(classes=2)}


def seed(a, b, count=0.5):
    tested = {"a": {"macro_AP": a}, "b": {"error": b}}
    worse = {"a": {"macro_AP": a / 2}, "b": {"error": b}}
    return {"test": {"clean": tested, "noisy": worse}, "unseen": {"count": {"20": [count, count + 0.2]}}}


STUDENTS = {"single": [seed(0.5, 0.2), seed(0.7, 0.2)], "fused": [seed(0.72, 0.1), seed(0.78, 0.1)]}


def test_delta_mtl_counts_lower_as_better_where_it_is():
    assert delta_mtl(TASKS, {"a": 66, "b": 10}, {"a": 60, "b": 20}) == pytest.approx((10 + 50) / 2)


def test_rows_have_mean_and_spread_in_points():
    rows = student_rows(TASKS, STUDENTS, "single")
    assert rows["fused"]["a"] == pytest.approx((75, 4.2426), abs=1e-3)
    assert rows["fused"]["average"][0] == pytest.approx((75 - 10) / 2)
    assert rows["fused"]["noisy"][0] == pytest.approx((37.5 - 10) / 2)
    assert rows["fused"]["count@20"][0] == pytest.approx(60)
    assert rows["fused"]["delta_mtl"][0] == pytest.approx((25 + 50) / 2)
    assert rows["single"]["delta_mtl"][0] == pytest.approx(0)


def test_what_is_no_primary_metric_has_a_column_by_split_and_task():
    seeds = [{"clean": {"a": {"macro_AP": 0.5, "recall": x}, "b": {"error": 0.1}}} for x in (0.2, 0.4)]
    assert other_metrics(TASKS, seeds) == {"clean: a recall": (pytest.approx(30), pytest.approx(14.142, abs=1e-3))}


def test_what_is_no_share_stays_as_it_is_to_four_digits():
    found = other_metrics({"stars": Rating()}, [{"clean": {"stars": {"concordance": 0.5, "RMSE": 0.72534}}}])
    assert found == {"clean: stars RMSE": (0.72534, 0.0)}
    assert as_metrics(found | {"average": (74.8567, 1.0)}) == {"clean: stars RMSE": 0.7253, "average": 74.86}


def test_a_single_seed_has_no_spread_to_speak_of():
    (line,) = weak_teachers(TASKS, {"t": {"a": (50.0, 0.0)}}, {"single": {"a": (60.0, 0.0)}}, "single", None)
    assert "50.0 macro_AP against 60.0 of the student single; train it longer" in line


@pytest.mark.parametrize(
    ("points", "weak", "rivals"),
    [(95, "", []), (80, "may be", ["single"]), (70, "is", ["single", "labels"]), (50, "is", ["single", "labels"])],
)
def test_a_teacher_must_beat_its_rivals(points, weak, rivals):
    students = student_rows(TASKS, STUDENTS, "single")  # single: 60 +- 14 on a
    students["labels"] = {"a": (75.0, 1.0)}
    lines = weak_teachers(TASKS, {"t": {"a": (points, 0.0), "noisy": (1.0, 0.0)}}, students, "single", "labels")
    assert len(lines) == bool(weak)
    for line in lines:
        assert line.startswith(f"teacher t {weak} too weak: {points}.0 macro_AP against ")
        assert [rival for rival in ("single", "labels") if f"of the student {rival}" in line] == rivals
        assert ("not ahead by two standard deviations" in line) == (weak == "may be")


def test_the_ledger_says_when_the_cache_has_paid_for_itself():
    spent = ledger(
        {
            "prepare": {"prepare": {"seconds": 1}},
            "train_teacher": {"a": {"seconds": 50}, "b": {"seconds": 60}},
            "extract": {
                "a": {"seconds": 10, "rows": 1000, "bytes": 5},
                "b": {"seconds": 30, "rows": 1000, "bytes": 6},
                "killed": {"seconds": 0, "rows": 0, "bytes": 0},
                "imported": {"seconds": 0, "rows": 10, "bytes": 0},
            },
            "fuse": {"pca": {"seconds": 8, "bytes": 2, "quality": {"r2": {"a/x": 0.9}, "effective_rank": 3.0}}},
            "distill": {
                "fused": {"seconds": 20, "knowledge_rows": 600},
                "logits": {"seconds": 15, "knowledge_rows": 1800},
                "labels": {"seconds": 10, "knowledge_rows": 0},
                "theirs": {"seconds": 10, "knowledge_rows": 9000},
            },
        },
        live=["a", "b", "killed"],
        readers=["fused", "logits", "labels"],
    )
    assert spent.teachers == 110 and spent.dump_bytes == 11
    assert spent.row_seconds == pytest.approx(0.04)
    assert spent.live == pytest.approx(0.04 * 2400)
    assert spent.cached == 48 and spent.quality["pca"]["effective_rank"] == 3
    assert spent.break_even == pytest.approx(48 / (0.04 * 1200))


def test_curves_have_a_spread_over_seeds_of_what_is_averaged_over_separate_networks():
    curve = [
        {"seed": 0, "update": 10, "val/a/macro_AP": 0.4},
        {"seed": 0, "update": 10, "val/b/error": 0.2},
        {"seed": 1, "update": 10, "val/a/macro_AP": 0.6, "val/b/error": 0.2},
        {"seed": 0, "update": 20, "val/a/macro_AP": 0.9},
    ]
    assert val_curves(TASKS, curve) == [(10, pytest.approx(15), pytest.approx(50**0.5)), (20, pytest.approx(90), 0)]
