# ruff: noqa: RUF001
import pytest

from pipeline.sources.text.scripts import joined, marks_apart, words_in


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" the  soup\u00a0was\tcold, well-done\n", ["the", "soup", "was", "cold,", "well-done"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("我用iPhone手机，好！", ["我", "用", "iPhone", "手", "机", "，", "好", "！"]),
        ("１２月 3日", ["１２", "月", "3", "日"]),
        ("東京タワーへ。", ["東", "京", "タ", "ワ", "ー", "へ", "。"]),
        ("ขอบคุณ", ["ข", "อ", "บ", "คุ", "ณ"]),  # a mark stays with its letter
        ("が𠀀", ["が", "𠀀"]),
        ("", []),
    ],
)
def test_words(text, words):
    assert words_in(text) == words
    assert words_in(joined(words)[0]) == words


def test_what_is_written_without_blanks_is_joined_without():
    assert joined(["我", "用", "iPhone", "手", "机"]) == ("我用 iPhone 手机", [0, 1, 3, 10, 11])
    assert joined(["the", "soup"]) == ("the soup", [0, 4])
    assert joined(["中共中央", "总书记"]) == ("中共中央总书记", [0, 4])
    assert joined([]) == ("", [])


def test_marks_are_apart_where_they_are_words_and_what_they_are_part_of_is_none():
    known = {"(", ")", ".", ",", "U.S.", "Paris", "..."}
    wanted = {
        "(Paris),": ["(", "Paris", ")", ","],
        "U.S.": ["U.S."],
        "U.K.": ["U.K", "."],
        "...": ["..."],
        ".": ["."],
        "Paris!": ["Paris!"],
        "a.b": ["a.b"],
        "..": [".", "."],
    }
    assert {word: marks_apart(word, known) for word in wanted} == wanted
