"""Near copies of prompts: text that most prompts share is taken out, and what is left is compared.

    prompts of a block ──▶ 6-byte shingles ──▶ those of many different prompts are frame
        ──▶ the rest: a MinHash signature, and (if short) its words

A system turn, few-shot examples or an instruction that stands in every prompt makes any two of
them similar. Taken out of both, it neither makes two questions alike nor hides that they are.

Two prompts are near copies if their signatures are similar and, where what is left of both is
short, if their words agree but for slips of the pen, little words and the odd insertion: "capital
of France" and "capital of Spain" share most letters and are two questions.

Recall on four real sets (TruthfulQA, UltraFeedback, GSM8K, a mix of chats): one slip .80 to .95,
two .62 to .93, three .41 to .85; polite words before or after .90 to 1.0; other synonyms .11 (of
short questions) to .98. On IFEval, whose prompts share many words, one slip .76 to .82 and
polite words .72 to .88. Of unrelated prompts at most .010 were taken for copies.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from accord.auditing import minhash
from accord.auditing.measure import LANGUAGES
from accord.auditing.thresholds import limit
from accord.types import Turn

# Bytes of a shingle. A slip of the pen changes as many of them: with 8, one in a question of 40
# letters leaves a similarity of .61, and two leave .35; with 6 they leave .71 and .49.
WIDTH = 6
COUNTED = 256  # different prompts of a block in which shingles are counted: 15 µs a prompt
FEWEST = 6  # prompts that a frame stands in: six near copies in a small file are no frame
SLOTS = 1 << 20  # of the table in which frames are looked up: at most 1 in 100 is a wrong hit
SHORT = 200  # bytes of what is left of a prompt, up to which its words are kept and compared
FEW_SHINGLES = 12  # left of a prompt, under which it is compared exactly: "translate …: cat"
FORM = b"\2"  # begins the words of a prompt that is hardly more than text of others
BAND = 3  # bins: a pair with similarity .4 becomes a candidate with p = .75, one with .5 with .94
MANY = 200_000  # different prompts, above which only the more similar ones are candidates
VERIFIED = 300_000  # candidates whose words are compared, at 20 µs each; then similarity decides

SEGMENTS = 12  # sentences and lines kept of a prompt, as hashes: the first 4 and the last 8
SAID = 400  # bytes of a last user turn, up to which it is kept to compare word for word
TELLING = 20  # characters of a turn from which on it says where it is from


def prompt_text(prompt: Sequence[Turn]) -> str:
    """Render a prompt as one text, to compare and to show."""
    if len(prompt) == 1:
        return prompt[0].content
    return "\n".join(f"{turn.role}: {turn.content}" for turn in prompt)


def prompt_arrays(prompts: Sequence[Sequence[Turn]]) -> dict[str, np.ndarray]:
    """Compute what is kept of a block of prompts; see the fields of `Scan`."""
    normal = [minhash.normal(prompt_text(prompt)) for prompt in prompts]
    questions = hashes(normal)
    signs, cores = _without_frame([_plain(text) for text in normal], questions)
    asked = [_asked(prompt) for prompt in prompts]
    segments, lengths = _segments(asked)
    return {
        "questions": questions,
        "prompt_signs": signs,
        "cores": cores,
        "asked": np.array([_asked_key(turn) for turn in asked], np.uint64),
        "segments": segments,
        "segment_lengths": lengths,
        "said": np.array([_said(turn) for turn in asked] + [b""], object)[:-1],
        "last_questions": np.array([_last_questions(turn) for turn in asked], np.uint64),
    }


# A copy that differs in these alone is a near copy; signs of arithmetic say what is asked.
_MARKS = b'.,;:!?()[]{}"`_#~@$\\'
_BLANKS = bytes.maketrans(_MARKS, b" " * len(_MARKS))


def _plain(text: bytes) -> bytes:
    """Take punctuation out of a normalised text, at least one shingle long."""
    return b" ".join(text.translate(_BLANKS, b"'").split()).ljust(WIDTH)


def hashes(texts: Sequence[bytes]) -> np.ndarray:
    """Compute 64-bit hashes. The chance that any two of a million different texts share one is
    3e-8.
    """
    return np.frombuffer(
        b"".join(blake2b(text, digest_size=8).digest() for text in texts), np.uint64
    ).copy()


# ---------------------------------------------------------------- frames


def _without_frame(texts: list[bytes], keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute signatures [n, BINS] and what is left of short prompts [n] (bytes, empty where it is
    longer), both without frame.

    A prompt that is hardly more than text of some others is compared whole, unless most prompts
    have that text: sixty copies of a question with a slip in each are no frame.
    """
    _, first, back = np.unique(keys, return_index=True, return_inverse=True)
    distinct = [texts[at] for at in first.tolist()]
    grams, owner, start = minhash.shingles(distinct, WIDTH)
    place = (grams >> np.uint64(44)).astype(np.int64)
    some, most = (table[place] for table in _frame_tables(grams, owner, len(distinct)))
    form = np.bincount(owner[~some], minlength=len(distinct)) < FEW_SHINGLES
    frame = np.where(form[owner], most, some)
    cores = _cores(distinct, start[frame])
    kept = np.bincount(owner[~frame], minlength=len(distinct))
    signs = minhash.signatures_of(grams[~frame], owner[~frame], len(distinct))
    for at in np.flatnonzero(form).tolist():
        if kept[at] >= FEW_SHINGLES:
            cores[at] = FORM + cores[at] if cores[at] else b""
            continue
        # nothing but frame, or a word in it: only the same prompt is the same
        seed = np.random.SeedSequence(int(keys[first[at]]))
        signs[at] = seed.generate_state(minhash.BINS).astype(np.uint16)
        cores[at] = b"\0"
    return signs[back], cores[back]


def _frame_tables(grams: np.ndarray, owner: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return [SLOTS] bool twice: the shingles that stand in some and in most of n different
    prompts, by the first 20 bits of their hashes. The prompts counted lie evenly over the block.
    """
    some, most = np.zeros(SLOTS, bool), np.zeros(SLOTS, bool)
    if n >= FEWEST:
        counted = np.zeros(n, bool)
        counted[np.linspace(0, n - 1, min(n, COUNTED)).astype(np.int64)] = True
        taken = counted[owner]
        # a shingle counts once for each prompt: hash and prompt in one number
        single = np.unique(
            (grams[taken] >> np.uint64(12) << np.uint64(12)) | (owner[taken].astype(np.uint64))
        )
        value, count = np.unique(single >> np.uint64(12), return_counts=True)
        for table, share in ((some, limit("frame")), (most, limit("frame_of_most"))):
            many = count >= max(FEWEST, share * counted.sum())
            table[(value[many] >> np.uint64(32)).astype(np.int64)] = True
    return some, most


def _cores(texts: list[bytes], frame: np.ndarray) -> np.ndarray:
    """Keep the words that are not all frame, [n] bytes; empty where more than SHORT are left.

    A short text is kept whole where under half of it is frame.
    """
    ends = np.cumsum([len(text) for text in texts])
    covered = np.zeros(int(ends[-1]) + 1, np.int32)
    np.add.at(covered, frame, 1)
    np.add.at(covered, frame + WIDTH, -1)
    free = np.cumsum(covered[:-1]) == 0
    cumulated = np.r_[0, np.cumsum(free)]
    out = np.empty(len(texts), object)
    begin = 0
    for at, (text, end) in enumerate(zip(texts, ends.tolist(), strict=True)):
        left = int(cumulated[end] - cumulated[begin])
        if 2 * left > len(text) and len(text) <= SHORT:
            out[at] = text  # what it shares with others is little: "what do people"
        elif left > SHORT:
            out[at] = b""
        else:
            out[at] = _free_words(text, free[begin:end])
        begin = end
    return out


def _free_words(text: bytes, free: np.ndarray) -> bytes:
    """Keep the words with a byte that is no frame; empty if more than SHORT bytes."""
    position, words = 0, []
    marks = free.tobytes()
    for word in text.split(b" "):
        if b"\1" in marks[position : position + len(word)]:
            words.append(word)
        position += len(word) + 1
    core = b" ".join(words)
    return core if len(core) <= SHORT else b""


# ---------------------------------------------------------------- near copies


@dataclass(frozen=True)
class NearLinks:
    """Pairs (i, j) of near copies among different prompts."""

    pairs: np.ndarray  # [m, 2]
    changed: np.ndarray  # [m] bool: a content word of one is another, or missing, in the other


def near_prompts(keys: np.ndarray, signs: np.ndarray, cores: np.ndarray) -> np.ndarray:
    """Cluster prompts, [n]: those with one key (exact hash) are one, and so are near copies."""
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    return minhash.clusters(len(first), near_links(signs[first], cores[first]).pairs)[group]


def near_links(signs: np.ndarray, cores: np.ndarray) -> NearLinks:
    """Find near copies among different prompts, by signature, and by words if both are short."""
    # a million prompts have up to 42 million candidates, too many for the memory of the audit
    few = len(signs) <= MANY
    least = limit("near_candidate") if few else limit("near_candidate_of_many")
    pairs = minhash.links(signs, least, band=BAND if few else minhash.ROWS)
    short = np.array([bool(core) for core in cores], bool)[pairs].all(1)
    similar = minhash.similarities(signs, pairs)
    alike = similar >= np.where(short, limit("near_jaccard"), limit("near_long"))
    changed = np.zeros(len(pairs), bool)
    known: dict[int, list[str]] = {}
    for at in np.flatnonzero(short)[:VERIFIED].tolist():
        for each in pairs[at].tolist():
            if each not in known:
                known[each] = content_words(cores[each])
        form = any(cores[each].startswith(FORM) for each in pairs[at])
        found = others_in(*(known[each] for each in pairs[at].tolist()))
        alike[at] = found is not None and found <= (0 if form else limit("near_changed"))
        changed[at] = bool(found)
    return NearLinks(pairs[alike], changed[alike])


ENGLISH = frozenset(
    "a an the i me my we our us you your yours he she it its they them their this that these "
    "those there here who what when where why how which whom whose is am are was were be been "
    "being do does did doing have has had can could would should will shall may might must of "
    "to in on at by for with about from into as and or so if then than please kindly tell "
    "give explain describe know like want need help hi hello hey dear thanks thank ok okay "
    "just really very some any let show say question answer following question user assistant "
    "human system best way get got happen happens happened happening briefly detail details "
    "simply simple terms quickly exactly actually s t d m re ve ll im id whats hows lets also "
    "more most much many".split()
)
LITTLE = ENGLISH | frozenset(LANGUAGES)
_WORD = re.compile(r"\w+|[+*=<>^%&|]|(?<![^\W\d_])[-/]")
WIDE = "\u2e80"  # from here on scripts write words without blanks between them


def content_words(text: bytes) -> list[str]:
    """List the words of a text that say what it is about, in order. Signs of arithmetic count,
    and so does each letter of a script without blanks.
    """
    words = []
    for word in _WORD.findall(text.decode("utf-8", "replace").replace("'", "").replace("’", "")):
        if word[0] >= WIDE or word[-1] >= WIDE:
            words.extend(word)
        elif word not in LITTLE:
            words.append(word)
    return words


def others_in(one: list[str], two: list[str]) -> float | None:
    """Return the share of content words that are others, more or elsewhere in two short texts;
    None if half of them or a number is another.

    Words with a slip or another ending count as equal.
    """
    spare = [list((Counter(a) - Counter(b)).elements()) for a, b in ((one, two), (two, one))]
    if max(map(len, spare)) > 1 + max(len(one), len(two)) / 2:
        return None
    slips = [[word for word in extra if _little_slip(word)] for extra in spare]
    if not all(slips):  # "aer" stands for "are"; "cat" for "war" is another question
        one, two = (
            [word for word in words if word not in extra]
            for words, extra in zip((one, two), slips, strict=True)
        )
        spare = [
            [word for word in extra if word not in slip]
            for extra, slip in zip(spare, slips, strict=True)
        ]
    shorter, longer = sorted((len(one), len(two)))
    if not shorter:
        return None
    renamed: dict[str, str] = {}
    for word in spare[0]:
        other = next((each for each in spare[1] if slip(word, each)), None)
        if other is not None:
            spare[1].remove(other)
            renamed[other] = word
    two = [renamed.get(word, word) for word in two]
    spare = [list((Counter(a) - Counter(b)).elements()) for a, b in ((one, two), (two, one))]
    if all(any(word.isdigit() for word in extra) for extra in spare):
        return None
    different = max(map(len, spare))
    if different > longer / 2:
        return None
    moved = longer - different - _common_length(one, two)
    return (different + moved) / longer


def slip(one: str, two: str) -> bool:
    """Tell whether two words differ by a slip of the pen or an ending."""
    if any(map(str.isdigit, one + two)) or abs(len(one) - len(two)) > 3:
        return False
    short, long = sorted((one, two), key=len)
    if len(short) >= 4 and long.startswith(short) and long[len(short) :] in _ENDINGS:
        return True
    return len(short) >= 3 and len(long) - len(short) <= 1 and _one_edit(short, long)


def _deletions(word: str) -> set[str]:
    return {word[:at] + word[at + 1 :] for at in range(len(word))}


# Two words that differ by one letter, or by neighbours exchanged, have a deletion in common.
_NEAR_LITTLE = ENGLISH.union(*map(_deletions, (word for word in ENGLISH if len(word) >= 3)))


def _little_slip(word: str) -> bool:
    """Tell whether a word is a little word with a slip in it."""
    return 3 <= len(word) <= 9 and not _NEAR_LITTLE.isdisjoint({word} | _deletions(word))


_ENDINGS = frozenset("s es ed d ing er ers ly al e n en".split())


def _one_edit(short: str, long: str) -> bool:
    """Tell whether one letter added, changed or exchanged with its neighbour makes them one."""
    both = enumerate(zip(short, long, strict=False))  # the longer goes on
    at = next((i for i, (a, b) in both if a != b), len(short))
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    return short[at + 1 :] == long[at + 1 :] or _exchanged(short, long)


def _exchanged(one: str, two: str) -> bool:
    """Tell whether exchanging two neighbours makes words of one length one."""
    off = [at for at, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
    return (
        len(off) == 2
        and off[1] == off[0] + 1
        and one[off[0] : off[1] + 1] == (two[off[0] : off[1] + 1][::-1])
    )


def _common_length(one: list[str], two: list[str]) -> int:
    """Return the length of the longest common subsequence. Texts have at most SHORT bytes."""
    if one == two:
        return len(one)
    row = [0] * (len(two) + 1)
    for word in one:
        before = 0
        for at, other in enumerate(two, 1):
            held = row[at]
            row[at] = before + 1 if word == other else max(row[at], row[at - 1])
            before = held
    return row[-1]


# ---------------------------------------------------------------- the last user turn


def _said(turn: str) -> bytes:
    """Return a turn with single blanks; empty if it has more than SAID bytes."""
    text = " ".join(turn[: 2 * SAID].split()).encode("utf-8", "replace")
    return text if len(turn) <= 2 * SAID and len(text) <= SAID else b""


_ENDS = re.compile(r"([\n.?!:;()\"“”。？！：；（）])")


def _last_questions(turn: str) -> tuple[int, int]:
    """Hash the words of the first and the last question of a turn; 0 where there is none."""
    parts = _ENDS.split(turn)  # text, mark, text, mark, …; linear, whatever the text
    marked = zip(parts[:-1:2], parts[1::2], strict=True)
    found = [text for text, mark in marked if mark in "?？" and text.strip()]
    ends = (found[0], found[-1]) if found else ("", "")
    keys = (" ".join(re.findall(r"\w+", each.lower())) for each in ends)
    one, two = (_hash64(key) | 1 if key else 0 for key in keys)
    return one, two


def _asked(prompt: Sequence[Turn]) -> str:
    """Return the last user turn, or the last turn if no user speaks."""
    for turn in reversed(prompt):
        if turn.role == "user":
            return turn.content[: minhash.READ]
    return prompt[-1].content[: minhash.READ] if prompt else ""


_SPLIT = re.compile(r"[\n.?!:;()\[\]\"*#|>。？！：；（）]+")


def _asked_key(text: str) -> int:
    """Hash the words of a turn. 0 stands for one that is too generic to say where it is from, such
    as "yes, go on".
    """
    if len(text) < TELLING and text.isascii():
        return 0
    words = re.findall(r"\w+", text.lower())
    if len(set(content_words(text[:2_000].lower().encode("utf-8", "replace")))) < 3:
        return 0
    return _hash64(" ".join(words)) | 1


def _segments(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Hash sentences and lines of each text, [n, SEGMENTS] uint32 and their lengths uint16; 0 where
    there are fewer.
    """
    found = np.zeros((len(texts), SEGMENTS), np.uint32)
    lengths = np.zeros((len(texts), SEGMENTS), np.uint16)
    for row, text in enumerate(texts):
        parts = [" ".join(part.split()) for part in _SPLIT.split(text.lower())]
        parts = [part for part in parts if len(part) >= 4 or _is_wide(part)]
        if len(parts) > SEGMENTS:
            parts = parts[:4] + parts[4 - SEGMENTS :]
        for at, part in enumerate(parts):
            found[row, at] = _hash64(part) >> 32 or 1
            lengths[row, at] = min(len(part), 65_535)
    return found, lengths


def _is_wide(part: str) -> bool:
    return len(part) >= 2 and part[len(part) // 2] >= WIDE


def _hash64(text: str) -> int:
    return int.from_bytes(
        blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little"
    )
