"""Words of a text: what lies between blanks; in scripts that are written without blanks, each character."""

import re
import unicodedata
from collections.abc import Container

BLOCKS = "".join(
    (
        "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff",  # Thai, Lao, Burmese, Khmer
        "\u3001-\u312f\u31a0-\u31ff",  # punctuation of ideographs, kana, bopomofo
        "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",  # ideographs
        "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff9f",  # wide punctuation, narrow kana
    )
)
MARKS = "".join(c for c in map(chr, range(0xE00, 0x3100)) if unicodedata.category(c)[0] == "M")  # of the character before
WORD = re.compile(rf"[{BLOCKS}][{MARKS}]*|[^\s{BLOCKS}]+")
UNSPACED = re.compile(rf"[{BLOCKS}]")


def words_in(text: str) -> list[str]:
    """ "我用 the map" -> 我, 用, the, map: ideographs one by one, as in BERT's tokenizer (1810.04805)."""
    return WORD.findall(text)


def marks_apart(word: str, known_words: Container[str]) -> list[str]:
    """ "(Paris)." -> (, Paris, ), . if these marks are known as words, and the whole, unlike "U.S.", is not."""
    first, last = word[0], word[-1]
    if word in known_words or len(word) == 1:
        return [word]
    if last in known_words and not last.isalnum():
        return [*marks_apart(word[:-1], known_words), last]
    if first in known_words and not first.isalnum():
        return [first, *marks_apart(word[1:], known_words)]
    return [word]


def joined(words: list[str]) -> tuple[str, list[int]]:
    """The text of words, without blanks between scripts that are written so, and where in it each word begins."""
    text, begins = "", []
    for word in words:
        text += " " if text and not (UNSPACED.match(text[-1]) and UNSPACED.match(word)) else ""
        begins.append(len(text))
        text += word
    return text, begins
