"""Names of repositories on a hub: `hub:org/name@revision#split[:rows]`.

A name with `hub:` before it asks for the network by itself. Imports nothing heavy: recipes and the
command line read names too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from accord.errors import UsageError

PREFIX = "hub:"
MODEL, DATASET = "model", "dataset"
COMMIT = re.compile(r"[0-9a-f]{40}")
# As the hub has them: letters, digits, - _ and . within, up to 96 characters, one slash or none.
REPO = re.compile(r"(?!.*(?:--|\.\.))\w[\w.-]{0,95}(?:/\w[\w.-]{0,95})?(?<![.-])", re.ASCII)
REVISION = re.compile(r"[\w./-]{1,200}", re.ASCII)
FORM = (
    "hub:org/name, hub:org/name@revision or, for data, hub:org/name@revision#split, or"
    " hub:org/name@revision#split[:N] for its first N rows"
)
ROWS = re.compile(r"(?P<rest>.*)\[(?P<inside>[^\[\]]*)\]", re.DOTALL)
COUNT = re.compile(r":([0-9]+(?:_[0-9]+)*)", re.ASCII)
MOST_ROWS = 10**15  # more digits are a slip


@dataclass(frozen=True)
class HubName:
    """A repository of a hub, at a revision."""

    repo: str
    kind: str  # MODEL or DATASET
    revision: str = ""  # a branch, a tag or a commit; "" is the default branch
    split: str = ""  # of a data set: what stands behind #
    first: int | None = None  # so many rows of the split, from its start; None: all

    @property
    def pinned(self) -> bool:
        """Tell whether the name means the same bytes for ever."""
        return COMMIT.fullmatch(self.revision) is not None

    @property
    def branch(self) -> str:
        """The revision as a cache of the hub calls it."""
        return self.revision or "main"

    @property
    def folder(self) -> str:
        """The name of the repository's folder in a cache of the hub."""
        return f"{self.kind}s--{self.repo.replace('/', '--')}"

    @property
    def whole(self) -> str:
        """The name without its split."""
        return f"{PREFIX}{self.repo}" + f"@{self.revision}" * bool(self.revision)

    @property
    def rows(self) -> str:
        """The part of the name that says how many rows are wanted; "" where all are."""
        return "" if self.first is None else f"[:{self.first}]"

    def at(self, commit: str) -> HubName:
        """Return the same name at a commit."""
        return replace(self, revision=commit)

    def __str__(self) -> str:
        return self.whole + f"#{self.split}{self.rows}" * bool(self.split)


def is_hub(text: object) -> bool:
    """Tell whether a text asks for a hub."""
    return isinstance(text, str) and text.startswith(PREFIX)


def may_be_repo(text: str) -> bool:
    """Tell whether a text without `hub:` could be org/name of a hub, at a revision or not."""
    repo = text.partition("#")[0].partition("@")[0]
    return repo.count("/") == 1 and REPO.fullmatch(repo) is not None


def without_rows(text: str) -> tuple[str, str | None]:
    """Part a name into what stands before a [...] at its end, and what stands in it; None where
    there is none.
    """
    found = ROWS.fullmatch(text)
    return (found["rest"], found["inside"]) if found else (text, None)


def parse(text: str, kind: str) -> HubName:
    """Read a name; `hub:` may be left out.

    Raises:
      UsageError: it is no name of a hub.
    """
    named, inside = without_rows(text)
    body, sharp, split = named.removeprefix(PREFIX).partition("#")
    repo, at, revision = body.partition("@")
    if not REPO.fullmatch(repo):
        raise UsageError(
            f"{text!r}: no name of a hub. Expected {FORM}; letters, digits, - _ and . in both parts"
            f" of a name."
        )
    if at and (not REVISION.fullmatch(revision) or ".." in revision):
        raise UsageError(f"{text!r}: {revision!r} is no branch, tag or commit. Expected {FORM}")
    if sharp and kind == MODEL:
        raise UsageError(f"{text!r}: a model has no splits. Leave out #{split}: {PREFIX}{body}")
    if sharp and (not split or ".." in split.split("/")):
        raise UsageError(f"{text!r}: name a split behind #. Expected {FORM}")
    if inside is None:
        return HubName(repo, kind, revision, split)
    if not sharp:
        what = "a model has no rows" if kind == MODEL else "rows are counted in a split"
        example = "" if kind == MODEL else f", such as {PREFIX}{body}#train[:100000]"
        raise UsageError(f"{text!r}: {what}{example}. Expected {FORM}")
    return HubName(repo, kind, revision, split, _first(text, inside, PREFIX + body + sharp + split))


def _first(text: str, inside: str, name: str) -> int:
    """Read how many rows of a split are wanted.

    Raises:
      UsageError: it is no number of rows from the start.
    """
    found = COUNT.fullmatch(inside)
    count = int(found[1]) if found else 0
    if not 0 < count < MOST_ROWS:
        raise UsageError(
            f"{text!r}: [{inside}] names no rows. [:N] are the first N rows of a split, with a"
            f" whole number N from 1, such as {name}[:100000] or {name}[:100_000]. Shares and rows"
            " from the middle are not taken: all before them would be fetched too."
        )
    return count
