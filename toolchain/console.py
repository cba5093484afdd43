"""Text for a terminal or a log, in which nothing that comes from a file or another machine steers the terminal."""

import io
import unicodedata

from rich.console import Console, RenderableType


def as_text(content: RenderableType, colour: bool, width: int) -> str:
    """Return what a terminal of so many characters would show, without markup that names may look like.

    Args:
        content: to show.
        colour: emphasise with ANSI codes; without them the text is plain.
        width: characters per line.
    """
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    console.print(content)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def printable(text: str) -> str:
    """Return ``text`` on one line, its spaces single, without control characters."""
    return without_controls(" ".join(text.split()))


def without_controls(text: str) -> str:
    """Return ``text`` on one line without control characters, which a name from a model could steer a terminal with."""
    return "".join("?" if unicodedata.category(char).startswith("C") else char for char in text)
