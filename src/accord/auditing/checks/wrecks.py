"""Texts that are no text any more: sentinels, errors, escapes, cuts, invisible characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

import numpy as np

from accord.auditing.causes import Cause
from accord.auditing.checks.cuts import Cuts, find_cuts
from accord.auditing.findings import AuditFinding, Place, percent
from accord.auditing.scan import Scan
from accord.auditing.tables.wrecks import SHOWN, shown
from accord.auditing.thresholds import limit
from accord.auditing.wrecks.context import Asked
from accord.auditing.wrecks.kinds import KINDS, MENDS, mend_text

# kinds that make one finding with another
JOINED = {"invisible": ("blank", "invisible")}
CUT = "cut"
NAMES = (*(name for name in KINDS if name != "blank"), CUT)
CONTROLLED, CONTROL = 6, 4  # cut texts of one side, and times as many as of the other
SHORT_ANSWERS = 25  # characters: a file of labels, in which "None" is one of them

WHY = {
    "sentinel": "The model learns to answer with a programming language's word for nothing.",
    "error": "The model learns to answer with the error message of a program.",
    "moderation": "The model learns a notice that some other program wrote, not an answer.",
    "placeholder": "The model learns to leave blanks, or reads a question that has none.",
    "invisible": "What nobody sees is tokens for the model: it learns to read and to write them.",
    "html": "The model learns to write escapes and tags where a reader wants characters.",
    "mojibake": "The model learns to write and to read characters that nobody meant.",
    "escaped": "The model learns to write a backslash and an n where a line ends.",
    "json": "The model learns to wrap its answers, and the marks around them are scored.",
    "watermark": "A pattern that one source leaves is learnt before anything else.",
    "homoglyphs": "Words in foreign letters are other tokens: they teach nothing about the words.",
    "loop": "The model learns not to stop: a loop is many equal tokens, all of them scored.",
    "damaged": "What was lost on the way is learnt as if it were the language's spelling.",
    CUT: "The model learns to stop in the middle, since an end token follows the cut.",
}
TITLES = {name: kind.title for name, kind in KINDS.items()} | {CUT: "Texts cut short"}
TITLES["invisible"] = "Text that nobody sees"
WHAT = {name: kind.what for name, kind in KINDS.items()} | {CUT: "end where a program cut them"}
WHAT["invisible"] = "hold characters that nobody sees, or nothing else"
REMEDY = "write them anew from the source"
MENDED = "mend them, or write them anew from the source"


def wreck_findings(scan: Scan) -> tuple[list[AuditFinding], list[Cause]]:
    """Find wrecks, and say what each explains."""
    table = scan.tables.wrecks
    if not len(table):
        return [], []
    found, causes = [], []
    for name in NAMES:
        cuts = find_cuts(scan) if name == CUT else None
        marked = cuts.rows if cuts is not None else marked_texts(scan, name)
        finding = _finding(scan, name, marked, cuts) if marked.any() else None
        if finding is not None:
            found.append(finding)
            rows = np.asarray(marked.any(axis=1))
            causes.append(Cause(finding.check, finding.title, rows, _without(name)))
    if not found:
        says = f"no sentinels, errors, escapes or cuts in {len(scan):,} {scan.noun}"
        found.append(AuditFinding("wrecks.none", "ok", says, title="Wrecked texts"))
    return found, causes


def _without(name: str):
    return partial(mend_text, name=name, asked=Asked("")) if name in MENDS else None


def marked_texts(scan: Scan, name: str) -> np.ndarray:
    """Mark the texts with a kind of wreck, [N, 1 + S] bool: the prompt, then the answers."""
    if name == CUT:
        return find_cuts(scan).rows
    table = scan.tables.wrecks
    least = int(limit("wreck_repeats"))
    if name == "sentinel" and _answers_are_labels(scan):
        least = len(scan) + 1
    out = np.zeros((len(table), table.columns), bool)
    for each in JOINED.get(name, (name,)):
        out |= table.mark(each, scan.questions, least)
    if name == "watermark":  # in a short text, a pattern is a character or two
        unseen = table.mark("invisible", scan.questions, least)
        if out.any() and out.sum() >= limit("watermark") * unseen.sum():
            out |= unseen
    if name == "invisible":
        pattern = table.mark("watermark", scan.questions, least)
        unseen = table.mark("invisible", scan.questions, least)
        if pattern.any() and pattern.sum() >= limit("watermark") * unseen.sum():
            out &= ~unseen
    return out


def _answers_are_labels(scan: Scan) -> bool:
    """Return True if answers are so short that "None" may be one of them."""
    table = scan.tables.wrecks
    sizes = table.shaped(table.characters)[:, 1:]
    others = sizes[~table.mark("sentinel", scan.questions, int(limit("wreck_repeats")))[:, 1:]]
    return len(others) > 0 and float(np.median(others)) < SHORT_ANSWERS


def wrecked_rows(scan: Scan, name: str) -> np.ndarray:
    """Mark the rows with a kind of wreck in any text, [N] bool."""
    return np.asarray(marked_texts(scan, name).any(axis=1))


def _sides(scan: Scan, marked: np.ndarray) -> dict[str, tuple[int, int]]:
    """Return (texts with this fault, texts) of each side."""
    sides = {"prompts": marked[:, 0]}
    if scan.paired:
        sides |= {"chosen": marked[:, 1], "rejected": marked[:, 2]}
    elif scan.kind == "labelled":
        good = scan.desirable
        sides |= {"desirable": marked[good, 1], "undesirable": marked[~good, 1]}
    else:
        sides["answers"] = marked[:, 1]
    return {name: (int(rows.sum()), len(rows)) for name, rows in sides.items()}


def _verdict(
    name: str, sides: dict[str, tuple[int, int]], share: float, gap: float, cuts: Cuts | None
) -> str:
    """Grade one kind: a few texts are a note, one in a hundred a warning, most of a file unfit."""
    count, of = max(sides.values())
    if not _beyond_chance(count, of):
        return "note"
    if cuts is not None:
        answers = sorted(side for name, side in sides.items() if name != "prompts")
        count, of = answers[-1]
        piled = any(column for column, *_ in cuts.piles) and cuts.pile_share >= limit("wreck")
        if piled or (count >= limit("cut") * of and _beyond_chance(count, of, limit("cut_usual"))):
            return "warning"
        if count >= max(CONTROLLED, limit("cut") * of, CONTROL * answers[0][0]) and answers[1:]:
            return "warning"  # the other side shows how often the file's sound texts end so
        # a question may be the beginning of a text: it needs more than an answer does
        count, of = sides["prompts"]
        many = count >= limit("cut_prompts") * of
        if any(not at and texts >= limit("cut_prompt_pile") * of for at, *_, texts in cuts.piles):
            return "warning"
        return "warning" if many and _beyond_chance(count, of, limit("cut_usual")) else "note"
    if share >= limit("wreck_unfit") and name in WHOLE_TEXTS:
        return "refused"
    if share >= limit("wreck"):
        return "warning"
    alone = gap >= limit("wreck_gap") and _much_more(sides)
    return "warning" if alone and count >= limit("wreck_gap_rows") else "note"


def _much_more(sides: dict[str, tuple[int, int]]) -> bool:
    """Return True if one side of the answers has a kind several times as often as the other."""
    shares = [n / of if of else 0.0 for side, (n, of) in sides.items() if side != "prompts"]
    return len(shares) == 2 and max(shares) >= limit("one_sided") * min(shares)


def _beyond_chance(count: int, of: int, usual: float | None = None) -> bool:
    """Return True if a sound file hardly ever has so many: Chernoff's bound of a Poisson number."""
    expected = (limit("wreck_usual") if usual is None else usual) * of
    if count <= max(1.0, expected):
        return False
    return count - expected - count * np.log(count / expected) < np.log(limit("wreck_chance"))


WHOLE_TEXTS = ("sentinel", "error", "moderation", "placeholder", "invisible", "json", "mojibake")


def _finding(scan: Scan, name: str, marked: np.ndarray, cuts: Cuts | None) -> AuditFinding | None:
    sides = _sides(scan, marked)
    shares = {side: count / of if of else 0.0 for side, (count, of) in sides.items()}
    answers = [share for side, share in shares.items() if side != "prompts"]
    gap = max(answers) - min(answers) if len(answers) == 2 else 0.0
    count, share = int(marked.any(axis=1).sum()), max(shares.values())
    verdict = _verdict(name, sides, share, gap, cuts)
    if cuts is not None and verdict == "note" and not cuts.piles:
        return None  # honest texts end so now and then, and the words are learnt, not known
    command, remedy = _command(scan, name, marked)
    if verdict == "note" and name == "html" and "--mend" not in command:
        return None  # a few tags that no page's escaping left: texts about markup resemble these
    told = [f"{n:,} of {of:,} {side} ({percent(n / of)})" for side, (n, of) in sides.items() if n]
    says = f"{', '.join(told)} {WHAT[name]}"
    if name in ("sentinel", "error", "moderation", "placeholder"):
        says += _commonest(scan, name)
    if cuts is not None and cuts.piles:
        column, unit, length, texts = max(cuts.piles, key=lambda pile: pile[3])
        side = list(sides)[min(column, len(sides) - 1)] if scan.paired or not column else "answers"
        says += f": {texts:,} {side} stop at {length:,} {unit}"
    why = WHY[name]
    least_gap = limit("cut" if cuts is not None else "wreck_gap")
    one_sided = gap >= least_gap and _much_more(sides) and verdict != "note"
    if one_sided:
        says += "; mostly on one side, so that it gives the label away"
        why += " On one side only, it tells the sides apart by itself: a shortcut."
    return AuditFinding(
        f"wrecks.{name}",
        verdict,
        says,
        {
            "rows": count,
            "share": share,
            "shares": shares,
            "gap": gap,
            **({"piles": [list(pile) for pile in cuts.piles]} if cuts is not None else {}),
        },
        remedy,
        title=TITLES[name] + (", on one side" if one_sided else ""),
        why=why,
        command=command,
        harm=share + gap,
        places=tuple(_places(scan, name, marked)),
    )


def _command(scan: Scan, name: str, marked: np.ndarray) -> tuple[str, str]:
    """Return the command that changes rows with this kind, and the advice with its number."""
    rows = np.asarray(marked.any(axis=1))
    count = int(rows.sum())
    drop = "" if rows.all() else f"--fix OUT --drop {name}"
    if name not in MENDS:
        return drop, REMEDY
    known, mended = _mendable(scan, name, rows)
    if not mended:
        return drop, f"{REMEDY}; --mend {name} mends none of them" if known else REMEDY
    where = "" if known == count else " of the sample"
    command = f"--fix OUT --mend {name}"
    if mended == known:
        return command, f"{MENDED}: --mend {name} mends {_rows(known)}{where}"
    others = f"; --drop {name} leaves the others out as well" if drop else ""
    return command, f"{MENDED}: --mend {name} mends {mended:,} of {_rows(known)}{where}{others}"


def _rows(count: int) -> str:
    return f"{count:,} row" + ("" if count == 1 else "s")


def _mendable(scan: Scan, name: str, rows: np.ndarray) -> tuple[int, int]:
    """Return how many marked rows of the sample there are, and how many lose their sign."""
    known = mended = 0
    for sampled in scan.sample:
        if not rows[sampled.row]:
            continue
        known += 1
        whole = Asked("\n".join(turn.content for turn in sampled.example.prompt))
        texts = [(turn.content, Asked(turn.content)) for turn in sampled.example.prompt]
        texts += [(text, whole) for text in sampled.example.completions]
        after = [mend_text(text, name, asked) for text, asked in texts]
        changed = any(new != old for new, (old, _) in zip(after, texts, strict=True))
        mended += changed and not any(
            KINDS[name].find(new, asked) for new, (_, asked) in zip(after, texts, strict=True)
        )
    return known, mended


def _commonest(scan: Scan, name: str) -> str:
    """Return the texts that are repeated most, to be read behind a count."""
    table = scan.tables.wrecks
    pieces: Counter[str] = Counter()
    for texts, form in table.repeated(name, scan.questions, int(limit("wreck_repeats"))):
        shown_of = table.forms.get(form, [])[: None if form[2] == 0 else 1]
        for _, piece in shown_of:  # texts without letters have one form: "-", "...", "?"
            pieces[piece] += len(texts) // len(shown_of)
    for (kind, _), places in table.first.items():
        if kind == name:
            pieces.update(piece for _, piece in places)
    return (
        ", such as " + ", ".join(f'"{p[:40]}"' for p, _ in pieces.most_common(3)) if pieces else ""
    )


def _places(scan: Scan, name: str, marked: np.ndarray) -> Iterator[Place]:
    """Yield places of a kind, the answers' first, on different rows."""
    table = scan.tables.wrecks
    seen: set[int] = set()
    pieces = [
        (column, row, piece)
        for kind in JOINED.get(name, (name,))
        for (each, column), places in table.first.items()
        if each == kind
        for row, piece in places
    ]
    for texts, form in table.repeated(name, scan.questions, 1) if name in KINDS else ():
        rows = set((texts // table.columns).tolist())
        pieces += [(form[1], row, piece) for row, piece in table.forms.get(form, []) if row in rows]
    if name == CUT:
        pieces = _cut_pieces(scan, marked)
    for column, row, piece in sorted(pieces, key=lambda p: (p[0] == 0, p[1])):
        if marked[row, column] and row not in seen and len(seen) < SHOWN:
            seen.add(row)
            yield Place(scan.at(row), piece, row)


def _cut_pieces(scan: Scan, marked: np.ndarray) -> list[tuple[int, int, str]]:
    out = []
    for sampled in scan.sample:
        texts = (sampled.example.prompt[-1].content, *sampled.example.completions)
        for column in np.flatnonzero(marked[sampled.row]).tolist():
            out.append((column, sampled.row, "… " + shown(texts[column][-50:])))
        if len(out) > 2 * SHOWN:
            break
    return out
