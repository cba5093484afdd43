from rich.text import Text

from toolchain.console import as_text, printable


def test_names_cannot_steer_the_terminal_nor_break_lines():
    assert printable("two\nlines\x07 \x1b[31m\u202e") == "two lines? ?[31m?"


def test_text_is_plain_unless_colour_is_asked_for_and_markup_is_text():
    assert as_text(Text("[bold]a", style="red"), colour=False, width=20) == "[bold]a\n"
    assert "\x1b[31m" in as_text(Text("a", style="red"), colour=True, width=20)
    assert as_text("[bold]b", colour=False, width=20) == "[bold]b\n"


def test_lines_have_at_most_the_width():
    lines = as_text(Text("a b " * 20), colour=False, width=10).splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 10
