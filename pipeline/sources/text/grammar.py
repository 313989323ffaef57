"""A small language of reviews, and a second one: words from parts, clauses from templates, names from syllables.

A review is of one thing. Its clause alone tells what is reviewed from what is only mentioned; the verdict is the opinion in
that clause, and whether it is negated. The second language says the same in words of its own, clauses reversed, without
articles, with particles that the first lacks.
"""

from dataclasses import dataclass
from itertools import product
from typing import final

import numpy as np

NOUNS = {
    "hotel": ["lobby", "bed", "pillow", "shower", "balcony", "corridor", "sauna", "bathrobe"],
    "phone": ["screen", "battery", "camera", "speaker", "charger", "keyboard", "antenna", "button"],
    "film": ["plot", "actor", "scene", "dialogue", "costume", "ending", "trailer", "sequel"],
    "meal": ["soup", "salad", "dessert", "sauce", "noodle", "waiter", "bread", "starter"],
    "flight": ["seat", "cabin", "runway", "boarding", "luggage", "pilot", "legroom", "takeoff"],
    "book": ["chapter", "prose", "cover", "narrator", "page", "preface", "author", "index"],
}
SUFFIXES = ("ful", "ing", "some", "able")
STEMS = {
    1: ["delight", "charm", "cheer", "joy", "wonder", "grace"],
    0: ["dread", "harm", "waste", "bore", "worry", "gloom"],
}
ADVERBS = {True: ["very", "deeply", "utterly"], False: ["rather", "fairly", "mildly"]}  # strong, or not
HELD_OUT = 4  # every fourth of a stem's words with suffixes is kept for the split "novel"

# | parts what the second language reverses. N: noun; A: adverb and opinion; P, L, O: names. A verdict with 0 says
# the opposite of its A.
VERDICTS = [
    ("the N|was|A", 1), ("i found|the N|A", 1), ("the N|seemed|A", 1), ("so A|was|the N", 1), ("we thought|the N|A", 1),
    ("the N|was not|A", 0), ("hardly A|was|the N", 0),
]  # fmt: skip
MENTIONS = ["P|said|the N|was|A", "others have|a N|that is|A", "unlike|the N", "not so|the N", "P|likes|the N"]
NAMED = [
    "we came|from L", "made|by O", "P|took us|to L", "P|works|for O", "we met|P|in L", "P|got it|from O",
    "P|flew|from L", "O|opened|in L", "O|sold it|to P", "near L|lives|P",
]  # fmt: skip
CLOSINGS = {
    "recommend": ["tell|your friends", "go|and see", "do try it", "everyone|needs|one"],
    "refund": ["i want|my money", "send me|a new one", "i will|return it", "please|pay me|back"],
    "ask": ["does|anyone|know more", "where|is|another", "any|cheaper ones", "who else|had one"],
    "repeat": ["we come|again", "i ordered|another", "we have|two now", "next year|again"],
}
ARTICLES = {"the", "a", "that", "do"}  # words that the second language lacks
PARTICLES = {"N": "ka", "A": "mu", "P": "si", "L": "te", "O": "te"}  # words that the first language lacks
ONSETS = ["b", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "v", "br", "dr", "gr", "tr"]  # of names
VOWELS, CODAS = "aeio", ["", "", "n", "l", "r", "s"]

Word = tuple[str, str]  # its parts joined by "-"; its tag
Chunk = tuple[list[Word], str]  # and the particle that the second language ends it with


@dataclass(frozen=True)
class Sentence:
    """words: of the first and the second language. partner: of each first word the place of its second, or -1. tags: BIO."""

    words: tuple[list[str], list[str]]
    partner: list[int]
    tags: list[str]


def opinions(novel: bool) -> dict[int, list[str]]:
    """{polarity: words as parts joined by "-"}: those of training, or those that only the split "novel" has."""
    words_by_polarity: dict[int, list[str]] = {0: [], 1: []}
    for polarity, stems in STEMS.items():
        for (s, stem), (f, suffix) in product(enumerate(stems), enumerate(SUFFIXES)):
            if ((s + f) % HELD_OUT == 0) == novel:
                words_by_polarity[polarity].append(f"{stem}-{suffix}")
    return words_by_polarity


def names(rng: np.random.Generator, count: int) -> list[str]:
    """Distinct words of two or three syllables; only its clause tells what kind of name one is."""
    found: dict[str, None] = {}
    while len(found) < count:
        syllables = [rng.choice(ONSETS) + rng.choice(list(VOWELS)) for _ in range(rng.integers(2, 4))]
        found["".join(syllables) + rng.choice(CODAS)] = None
    return list(found)


def chunks(template: str, slots: dict[str, list[Word]]) -> list[Chunk]:
    """A template's chunks with its slots filled; a word without a slot has the tag O."""
    found = []
    for part in template.split("|"):
        words = [word for name in part.split() for word in slots.get(name, [(name, "O")])]
        found.append((words, "".join(PARTICLES.get(name, "") for name in part.split())))
    return found


def sentence(clauses: list[list[Chunk]], second: "SecondLanguage") -> Sentence:
    """Clauses with full stops between them; the second language has a clause's chunks in reverse order, and no stops."""
    first_words: list[Word] = []
    second_words: list[str] = []
    partner: list[int] = []
    for number, clause in enumerate(clauses):
        first_words += [(".", "O")] * (number > 0)
        partner += [-1] * (number > 0)
        begins = np.cumsum([len(first_words)] + [len(words) for words, _ in clause])
        partner += [-1] * sum(len(words) for words, _ in clause)
        for begin, (words, particle) in zip(begins[-2::-1], clause[::-1], strict=True):
            for position, (word, _) in enumerate(words):
                if word not in ARTICLES:
                    partner[begin + position] = len(second_words)
                    second_words.append(second.word(word))
            second_words += [second.word(particle)] * bool(particle)
        first_words += [word for words, _ in clause for word in words]
    return Sentence(([word for word, _ in first_words], second_words), partner, [tag for _, tag in first_words])


@final
class SecondLanguage:
    """Translates parts of words: those of the lexicon to parts made up at random, names letter by letter."""

    def __init__(self, rng: np.random.Generator):
        closings = [template for templates in CLOSINGS.values() for template in templates]
        templates = [template for template, _ in VERDICTS] + MENTIONS + NAMED + closings
        lexicon = [word for table in (NOUNS, ADVERBS, STEMS) for words in table.values() for word in words]
        parts = {*" ".join(templates).replace("|", " ").split(), *lexicon, *SUFFIXES, *PARTICLES.values()}
        self.parts: dict[str, str] = {}
        for part in sorted(parts):
            while part not in self.parts:
                syllables = "".join(rng.choice(list("kzhwjx")) + rng.choice(list("auy")) for _ in range(3))
                translation = syllables[: rng.integers(3, 7)]
                if translation not in self.parts.values():
                    self.parts[part] = translation
        self.letters: dict[str, str] = {}
        for kind in ("bdfglmnprstv", VOWELS):
            self.letters |= dict(zip(kind, rng.permutation(list(kind)), strict=True))

    def word(self, word: str) -> str:
        """The parts in reverse order, each translated."""
        return "-".join(self.part(part) for part in word.split("-")[::-1])

    def part(self, part: str) -> str:
        return self.parts.get(part) or "".join(self.letters[letter] for letter in part)
