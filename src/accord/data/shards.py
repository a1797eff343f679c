"""Files that are one data set together: shards in a folder, in an archive, or behind a pattern.

Names say which files belong together, by the conventions of the hub (`data/train-00000-of-00002`,
folders and files called train, validation, test). Files of several splits or configurations are
never joined: the error names the path or pattern of each.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from accord.errors import plural
from accord.types import DataError

# suffix -> container, of the files that hold rows
CONTAINERS = {
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "TSV",
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".arrow": "Arrow",
    ".feather": "Arrow",
}
PACKINGS = (".gz", ".gzip", ".zst", ".zstd", ".xz", ".bz2")
ARCHIVES = (".zip", ".tar", ".tgz", ".txz", ".tbz2", ".tbz", ".tzst")

# Words in the names of files and folders that name a split, as the hub reads them.
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "heldout": "test",
    "holdout": "test",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
HELD = re.compile(r"held[-_. ]?out|hold[-_. ]?out", re.I)
SHARD = re.compile(r"(?P<base>.*?)[-_.]?(?P<at>\d{1,9})[-_]of[-_](?P<of>\d{1,9})(?P<more>.*)", re.I)
NUMBERS = re.compile(r"[-_. ]*\(?\d+\)?$")

# Files beside the data that hold no rows: they are passed over without a word.
BESIDE = re.compile(
    r"(readme|licen[cs]e|copying|notice|citation|changelog|authors|checksums?|sha256sums|md5sums"
    r"|_success|dataset_infos?|split|dataset_dict|state|config|croissant|desktop|thumbs)(\.[a-z0-9]{1,5})?"
    r"|.*\.(md|rst|crc|sha256|md5|lock|incomplete|metadata|py|bib|gitattributes)",
    re.I,
)
SHOWN = 8  # groups or names in a message
MOST_SHARDS = 100_000  # of one set; a name that says more is a slip


@dataclass(frozen=True)
class File:
    """A data file, by what its name says."""

    name: str  # path with slashes, from the folder or the archive
    folder: str  # folders that name no split, such as a configuration
    split: str  # the name of its split, "" where nothing names one
    container: str
    base: str  # name without suffixes and numbers
    at: int | None = None  # its number among shards of a known count
    of: int | None = None

    @property
    def group(self) -> tuple[str, str]:
        return self.folder, self.split

    @property
    def word(self) -> str:
        """The split in the hub's words: train, validation or test; "" for another."""
        return next((word for part in self.split.split("/") if (word := split_word(part))), "")


class MissingShards(DataError):
    """The error of numbered shards of which some are missing: `before` are the files in front of
    the first gap.
    """

    def __init__(self, says: str, before: Sequence[str] = ()) -> None:
        super().__init__(says)
        self.before = before


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts names with their numbers by value: part-2 before part-10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p), p) if i % 2 else (1, 0, p) for i, p in enumerate(parts)]


def split_word(text: str) -> str:
    """Return the split that a name speaks of, in the hub's words; "" for none."""
    if HELD.search(text):
        return "test"
    words = re.findall(r"[a-z]+", text.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def container_of(name: str) -> str:
    """Return the container that a file's suffix names; "" for none."""
    text = name.lower()
    if text.endswith(ARCHIVES) or re.search(r"\.tar\.\w+$", text):
        return "archive"
    for packing in PACKINGS:
        text = text.removesuffix(packing)
    return next((kind for suffix, kind in CONTAINERS.items() if text.endswith(suffix)), "")


def is_beside(name: str) -> bool:
    """Tell whether a file stands beside the data and is passed over: hidden, or a licence, …"""
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "__")) for part in parts if part != ".")
    return hidden or bool(BESIDE.fullmatch(parts[-1])) if parts else True


def describe(name: str) -> File:
    """Read what a file's name says."""
    path = PurePosixPath(name)
    stem = path.name
    while (suffix := PurePosixPath(stem).suffix.lower()) in (*PACKINGS, *ARCHIVES, *CONTAINERS):
        stem = stem[: -len(suffix)]
    shard = SHARD.fullmatch(stem)
    base = shard["base"] if shard else NUMBERS.sub("", stem)
    # the hub takes what stands before -00000-of-00002 for the split's name
    own = base if shard or split_word(base) else ""
    folders = [part for part in path.parts[:-1] if part not in (".", "data")]
    splits = [part for part in folders if split_word(part)]
    return File(
        name,
        "/".join(part for part in folders if not split_word(part)),
        "/".join([*splits, own] if own and own not in splits else splits),
        container_of(name),
        base,
        int(shard["at"]) if shard else None,
        int(shard["of"]) if shard else None,
    )


def data_files(names: Sequence[str], lone: bool = False) -> tuple[list[File], list[str]]:
    """Part names into data files, in order, and others that are not known to hold no rows.

    Args:
      lone: take the only file as data whatever its name, since its content says what it is.
    """
    left = sorted((name for name in names if not is_beside(name)), key=natural)
    found = [describe(name) for name in left if container_of(name)]
    other = [name for name in left if not container_of(name)]
    if lone and not found and len(other) == 1:
        return [describe(other[0])], []
    return found, other


def one_data_set(
    names: Sequence[str],
    give: Callable[[str], str],
    *,
    chosen: bool = False,
    lone: bool = False,
    beside: Sequence[str] = (),
) -> list[str]:
    """Return the files of the only data set among the names, in order; [] for no data file.

    Args:
      names: paths with slashes.
      give: from a path or a pattern to what a person names to read it alone.
      chosen: a person chose these files by a pattern, so that folders and names may differ. Splits
        still may not be mixed: a held-out split would be trained on.
      lone: as in `data_files`.
      beside: names of files that are there and were not chosen, so that no shard is missing.

    Raises:
      DataError: they are several splits, configurations or containers.
      MissingShards: a shard is missing.
    """
    files, _ = data_files(names, lone)
    groups: dict[tuple[str, ...], list[File]] = defaultdict(list)
    for file in files:
        key = (file.word,) if chosen else file.group
        groups[*key].append(file)
    if len(groups) > 1:
        what = (
            "splits"
            if len({file.split for file in files}) > 1
            else "folders of data files (configurations)"
        )
        raise DataError(_several(list(groups.values()), files, what, give))
    kinds: dict[str, list[File]] = defaultdict(list)
    for file in files:
        kinds[file.container].append(file)
    if len(kinds) > 1:
        raise DataError(_several(list(kinds.values()), files, "kinds of files", give))
    _refuse_copies(files)
    _refuse_missing(files, [file for file in map(describe, beside) if file.container])
    return [file.name for file in files]


def _several(
    groups: list[list[File]], files: list[File], what: str, give: Callable[[str], str]
) -> str:
    lines = [f"it holds {len(groups)} {what}, and rows of several are not joined. Name one:"]
    for group in groups[:SHOWN]:
        count = plural(len(group), "file")
        lines.append(f"  {give(pattern_of(group, files))}    ({count} of {group[0].container})")
    if len(groups) > SHOWN:
        lines.append(f"  … and {len(groups) - SHOWN:,} more")
    return "\n".join(lines)


def pattern_of(group: Sequence[File], files: Sequence[File]) -> str:
    """Return the shortest pattern that names exactly these files; the first file's name if none
    does.
    """
    wanted, first = {file.name for file in group}, group[0]
    if len(group) == 1:
        return first.name
    folder = str(PurePosixPath(first.name).parent)
    start = "" if folder == "." else _literal(folder) + "/"
    ends = {"".join(PurePosixPath(file.name).suffixes[-1:]) for file in group}
    end = ends.pop() if len(ends) == 1 else ""
    bases = (f"{_literal(first.base)}-*{end}", f"{_literal(first.base)}*{end}", f"*{end}")
    for text in (*(start + base for base in bases), f"{start}**/*{end}"):
        matched = {file.name for file in files if _matches(file.name, text)}
        if matched == wanted:
            return text
    return first.name


def _literal(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _matches(name: str, text: str) -> bool:
    """Match as `glob` does: * stays within a folder, and ** does not."""
    here, there = PurePosixPath(name).parts, text.split("/")
    if "**" in there:
        at = there.index("**")
        return (
            here[:at] == tuple(there[:at]) and len(here) > at and fnmatchcase(here[-1], there[-1])
        )
    return len(here) == len(there) and all(
        fnmatchcase(part, rule) for part, rule in zip(here, there, strict=True)
    )


def _refuse_copies(files: Sequence[File]) -> None:
    """Refuse a file that is there twice: packed and not, or in two containers."""
    seen: dict[str, str] = {}
    for file in files:
        text = file.name
        for packing in PACKINGS:
            text = text.removesuffix(packing)
        if text in seen:
            raise DataError(
                f"{seen[text]} and {file.name} have one name, packed and not packed: their rows"
                " would be read twice. Remove one of them."
            )
        seen[text] = file.name


def _refuse_missing(files: Sequence[File], beside: Sequence[File]) -> None:
    """Refuse numbered shards of a known count of which one is missing or there twice."""
    sets: dict[tuple[str, str], list[File]] = defaultdict(list)
    for file in files:
        if file.of is not None:
            sets[str(PurePosixPath(file.name).parent), file.base].append(file)
    for group in sets.values():
        counts = sorted({file.of for file in group if file.of is not None})
        if len(counts) > 1:
            two = [next(file.name for file in group if file.of == count) for count in counts[:2]]
            raise DataError(
                f"{two[0]} is of {counts[0]:,} shards and {two[1]} of {counts[1]:,}: they are"
                " of two versions. Remove the old one."
            )
        there = [file.at for file in group]
        if len(set(there)) < len(there):
            twice = next(file for file in group if there.count(file.at) > 1)
            raise DataError(f"shard {twice.at} is there twice ({twice.name}). Remove one of them.")
        numbers = _numbers(counts[0], there)
        first = group[0]
        there += [
            each.at
            for each in beside
            if (each.base, each.of, each.container) == (first.base, first.of, first.container)
        ]
        missing = sorted(set(numbers) - set(there))
        if missing:
            listed = ", ".join(map(str, missing[:SHOWN])) + ", …" * (len(missing) > SHOWN)
            raise MissingShards(
                f"{len(missing):,} of {counts[0]:,} shards are missing: number {listed}; there is"
                f" {first.name}. Fetch them; one file can be read by its own name.",
                _before_gap(files),
            )


def _before_gap(files: Sequence[File]) -> list[str]:
    """Return the files, in order, in front of the first shard that is missing."""
    numbers: dict[tuple, set[int | None]] = defaultdict(set)
    for file in files:
        numbers[_shard_set(file)].add(file.at)
    spans = {key: _numbers(key[-1], there) for key, there in numbers.items() if key[-1]}
    due = {key: span.start for key, span in spans.items()}  # the number that comes next
    found: list[str] = []
    before: tuple = ()
    for file in files:
        key = _shard_set(file)
        if before in spans and before != key and due[before] in spans[before]:
            break
        if key in spans:
            if file.at != due[key]:
                break
            due[key] += 1
        found.append(file.name)
        before = key
    return found


def _shard_set(file: File) -> tuple:
    """Return what shards of one set have in common; last, how many there are."""
    return str(PurePosixPath(file.name).parent), file.base, file.of


def _numbers(of: int, there: Collection[int | None]) -> range:
    """Return the numbers that so many shards have: from 0 or, where the files show it, from 1."""
    start = 1 if 0 not in there and of in there else 0
    return range(start, start + min(of, MOST_SHARDS))


def siblings(name: str, beside: Sequence[str]) -> str:
    """Say that a file is one shard of several; "" if it is whole.

    Args:
      name: a file's name without folders.
      beside: names of the files in its folder.
    """
    file = describe(name)
    if file.of is None or file.of < 2:
        return ""
    others = [
        each
        for each in map(describe, beside)
        if (each.base, each.of, each.container) == (file.base, file.of, file.container)
    ]
    pattern = re.sub(r"(\d+)([-_]of[-_]\d+)", r"*\2", name, count=1, flags=re.I)
    where = (
        f"the others are not read; all: '{pattern}'"
        if len(others) > 1
        else "the others are not in its folder"
    )
    return f"{name} is one of {file.of:,} shards; {where}"
