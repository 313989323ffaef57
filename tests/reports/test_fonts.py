import pytest
from matplotlib import font_manager
from matplotlib import pyplot as plt

from pipeline.reports import fonts, pictures

CIRCLED, CUNEIFORM = "\u24b6", "\U00012000"  # of fonts that come with matplotlib, STIX has the first, none the second


@pytest.fixture(autouse=True)
def bundled(monkeypatch):
    """No other fonts than those that matplotlib brings along."""
    known = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(fonts, "installed", lambda: known)
    fonts.font_with.cache_clear()
    yield
    fonts.font_with.cache_clear()


def test_what_a_font_lacks_another_draws():
    figure, axis = plt.subplots()
    plain, circled = axis.text(0, 0, "plain\ntext"), axis.text(0, 0, f"a{CIRCLED}", family="monospace")
    family = plain.get_family()
    assert fonts.set_fonts(figure) == set()
    assert plain.get_family() == family
    assert circled.get_family()[0] == "monospace" and circled.get_family()[1].startswith("STIX")
    plt.close()


def test_what_no_font_has_is_said_once_and_a_box(tmp_path, capsys):
    figure, axis = plt.subplots()
    axis.text(0, 0, CUNEIFORM * 3)
    axis.set_title(CUNEIFORM)
    pictures.save(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()
    said = capsys.readouterr().err
    assert said == f"{tmp_path / 'a.png'}: no font here has {CUNEIFORM}: boxes stand for it; install one, such as Noto Sans\n"
