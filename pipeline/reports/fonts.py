"""Fonts for the words in figures, in any script."""

from contextlib import suppress
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, findSystemFonts, fontManager, get_font
from matplotlib.text import Text

BOXES = "Last Resort"  # has a box for every character


def set_fonts(figure: Figure) -> set[str]:
    """Give each text, after its own font, installed ones that have what it lacks. Returns the characters that none has."""
    boxed_chars = set()
    for text in figure.findobj(Text):
        own_font = get_font(findfont(text.get_fontproperties()))
        lacking_chars = {char for char in text.get_text() if char.isprintable() and not own_font.get_char_index(ord(char))}
        font_by_character = {char: font_with(char) for char in lacking_chars}
        boxed_chars |= {char for char, font in font_by_character.items() if font is None}
        if fallbacks := {font for font in font_by_character.values() if font}:
            text.set_fontfamily([*text.get_fontfamily(), *sorted(fallbacks)])
    return boxed_chars


@cache
def font_with(character: str) -> str | None:
    """The first installed font that has it."""
    fonts = (font for font in installed() if not font.name.startswith(BOXES))
    return next((font.name for font in fonts if get_font(font.fname).get_char_index(ord(character))), None)


@cache
def installed() -> list[FontEntry]:
    """All fonts, including those installed after matplotlib last looked, which it does not do again."""
    for path in set(findSystemFonts()) - {font.fname for font in fontManager.ttflist}:
        with suppress(Exception):  # of a kind that it cannot read
            fontManager.addfont(path)
    return fontManager.ttflist
