"""The parts that all pages share: one environment of templates, one set of filters, one way to
write.

All text is escaped. A page is one file: its stylesheet is inside, no script runs and nothing is
fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from accord.auditing.lines import full_command
from accord.errors import UsageError
from accord.evaluate.intervals import Estimate, format_short_interval
from accord.pages.words import MARKS, SEVERITY
from accord.runs.display import clock
from accord.runs.files import unwritable_error, write_text

LONGEST = 900  # characters of a sampled answer or a prompt that are shown


def environment() -> Environment:
    """Make the environment that all templates of this folder are rendered in."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "bar": bar,
        "clock": clock,
        "command": full_command,
        "cut": cut,
        "place": place,
        "told": told,
    }
    made.globals |= {"marks": MARKS, "severity": SEVERITY}
    return made


def check_page(path: str | Path, option: str = "--page") -> None:
    """Refuse an unwritable page before the work begins.

    Raises:
      UsageError: no folder, or no .html at the end.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise UsageError(f"{path} is a folder. Name a file: {option} {file / 'report.html'}")
    if file.suffix not in (".html", ".htm"):
        raise UsageError(f"{option} {path}: expected a name that ends in .html.")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {file.parent}.")


def write_page_file(file: Path, text: str) -> Path:
    """Write a page; create its folder if there is none.

    Raises:
      UsageError: there is a folder of this name. CheckpointError: the file cannot be written.
    """
    if file.is_dir():
        raise UsageError(f"{file} is a folder. Name a file: --output {file / 'report.html'}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
    except OSError as error:
        raise unwritable_error(file, error) from error
    return file


def bar(estimate: Estimate | Mapping) -> Markup:
    """Draw an accuracy on the line from 0 to 1, with its interval, if it is known, and chance."""
    found = estimate.as_dict() if isinstance(estimate, Estimate) else estimate
    value = found["value"]
    low, high = (value if found[end] is None else found[end] for end in ("low", "high"))
    return Markup(
        '<span class="bar"><i class="half"></i><i class="range"'
        ' style="left:{:.1f}%;width:{:.1f}%"></i><i class="value" style="left:{:.1f}%"></i></span>'
    ).format(100 * low, 100 * (high - low), 100 * value)


def told(estimate: dict | None) -> Markup:
    """Format an estimate so that its line may break only before its interval."""
    value, _, rest = format_short_interval(estimate).partition(" ")
    return Markup("<b>{}</b> <small>{}</small>").format(value, rest) if rest else Markup(value)


def place(at: str) -> str:
    """Return file:line without the folders, which the table of data shows."""
    return at.rsplit("/", 1)[-1]


def cut(text: str, longest: int = LONGEST) -> str:
    """Cut a text, and say how much is left out."""
    return (
        text
        if len(text) <= longest
        else text[:longest] + f" … ({len(text) - longest:,} more characters)"
    )
