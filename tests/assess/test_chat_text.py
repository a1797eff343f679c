"""`accord chat` without a model: the state of a conversation, its rows, its files, and what a
terminal shows.
"""

import io
import json
import os

import pytest
from conftest import WORDS

from accord.assess.chat.columns import Columns, fits
from accord.assess.chat.conversation import Answer, Conversation, Draw
from accord.assess.chat.rows import answers_row, pair_row
from accord.assess.chat.saved import RowsFile
from accord.assess.chat.wrapped import Wrapped, harmless, width_of
from accord.types import CheckpointError, Turn, UsageError


def answer(text, **more):
    return Answer(text, 2, -1.5, **{"ended": True} | more)


def draw(*texts, row=0, seed=0):
    sides = ("base", "tuned")[-len(texts) :]
    return Draw(tuple(map(answer, texts)), sides, seed, row, kept=len(texts) - 1)


def yes(question):
    return True


def no(question):
    return False


# ---------------------------------------------------------------- the conversation


def test_turns_stand_before_the_next_prompt():
    talk = Conversation("Be kind.").ask("Hi", 1).add(draw("Hello")).ask("And?", 2)
    assert talk.last.asked == (
        Turn("system", "Be kind."),
        Turn("user", "Hi"),
        Turn("assistant", "Hello"),
        Turn("user", "And?"),
    )
    assert talk.back().ask("So?", 3).last.asked[1:] == (
        Turn("user", "Hi"),
        Turn("assistant", "Hello"),
        Turn("user", "So?"),
    )
    assert talk.clear().with_system(None).ask("New", 4).last.asked == (Turn("user", "New"),)


def test_the_last_draw_counts_and_of_two_answers_the_one_that_is_kept():
    talk = Conversation().ask("Hi", 1).add(draw("one")).add(draw("left", "right", row=1))
    assert talk.ask("?", 2).last.asked[1].content == "right"
    assert talk.keep(0).ask("?", 2).last.asked[1].content == "left"
    assert talk.last.draws[0].answer.text == "one"


def test_texts_without_a_template_stand_alone():
    talk = Conversation(alone=True).ask("Once upon", 1).add(draw(" a time")).ask("The end", 2)
    assert talk.last.asked == (Turn("user", "The end"),)


# ---------------------------------------------------------------- rows


def test_a_row_holds_every_draw_of_a_prompt():
    talk = Conversation().ask("Hi", 3).add(draw("one")).add(draw("left", "right", row=1, seed=5))
    row = answers_row(talk.last, {"model": "m", "seed": 0})
    assert row["prompt"] == "Hi" and row["completions"] == ["one", "left", "right"]
    assert row["ended"] == [True] * 3 and row["tokens"] == [2] * 3 and row["at"] == "chat:3"
    assert row["provenance"] == {
        "model": "m",
        "k": 3,
        "seed": [0, 5, 5],
        "rows": [0, 1, 1],
        "drawn_by": ["tuned", "base", "tuned"],
    }


def test_a_pair_names_its_sides_and_how_they_ended():
    talk = Conversation("S").ask("Hi", 1)
    both = (answer("left", ended=False), answer("right"))
    exchange = talk.add(Draw(both, ("base", "tuned"), 0, 0, 1)).last
    row = pair_row(exchange, 0, {})
    assert [turn["role"] for turn in row["prompt"]] == ["system", "user"]
    assert (row["chosen"], row["rejected"]) == ("left", "right")
    assert (row["chosen_ended"], row["rejected_ended"]) == (False, True)
    assert row["provenance"]["drawn_by"] == ["base", "tuned"]


@pytest.mark.parametrize(("texts", "words"), [(("a", "a"), "same text"), (("a", " "), "empty")])
def test_what_is_no_preference_is_refused(texts, words):
    with pytest.raises(UsageError, match=words):
        pair_row(Conversation().ask("Hi", 1).add(draw(*texts)).last, 0, {})


# ---------------------------------------------------------------- files


def test_rows_are_added_one_by_one(tmp_path):
    file = RowsFile(str(tmp_path / "a.jsonl"), no)
    assert not file.path.exists()
    for number in range(3):
        file.add({"n": number, "text": "é \x1b \ud800"})
        rows = [json.loads(line) for line in file.path.read_text().splitlines()]
        assert [row["n"] for row in rows] == [*range(number + 1)] and file.rows == number + 1


def test_a_file_that_was_there_is_asked_about_and_never_overwritten(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 0}\n')
    with pytest.raises(UsageError, match="nothing was written"):
        RowsFile(str(path), no)
    file = RowsFile(str(path), yes)
    file.add({"n": 1})
    assert path.read_text() == '{"n": 0}\n{"n": 1}\n'


@pytest.mark.parametrize("content", ['{"n": 0}', '{"n": 0}\n{"n"', "text\n", "[1]\n"])
def test_a_file_without_whole_rows_is_left_alone(content, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match="no whole row"):
        RowsFile(str(path), yes)
    assert path.read_text() == content


def test_names_that_rows_are_not_written_to(tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    for name, words in (
        ("a.txt", "ends in .jsonl"),
        ("gone/a.jsonl", "no folder"),
        ("folder.jsonl", "no regular file"),
    ):
        with pytest.raises(UsageError, match=words):
            RowsFile(str(tmp_path / name), yes)


def test_half_a_row_does_not_stay(tmp_path, monkeypatch):
    """A full disk takes some bytes of a row, and no more."""
    from accord.assess.chat import saved

    file = RowsFile(str(tmp_path / "a.jsonl"), no)
    file.add({"n": 0})

    def full(out, content):
        out.write(content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saved, "_write_all", full)
    with pytest.raises(CheckpointError, match="No space left"):
        file.add({"n": 1})
    assert file.path.read_text() == '{"n": 0}\n' and file.rows == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="cannot be written"):
        RowsFile(str(tmp_path / "a.jsonl"), no).add({})


# ---------------------------------------------------------------- lines of a terminal


def lines_of(text, width, pieces=1):
    wrapped = Wrapped(width)
    for at in range(0, len(text), pieces):
        before = [*wrapped.lines, wrapped.line]
        wrapped.add(text[at : at + pieces])
        after = [*wrapped.lines, wrapped.line]
        # what was written on the terminal stays as it is
        assert after[: len(before) - 1] == before[:-1]
        assert after[len(before) - 1].startswith(before[-1])
    wrapped.finish()
    return wrapped.lines


@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_words_are_not_broken(pieces):
    text = " ".join(WORDS * 5)
    lines = lines_of(text, 23, pieces)
    assert " ".join(lines) == text and max(map(width_of, lines)) <= 23 and len(lines) > 5


def test_lines_of_every_kind():
    assert lines_of("a\n\n  b c", 10) == ["a", "", "  b c"]
    assert lines_of("abcdefghij klm", 4) == ["abcd", "efgh", "ij", "klm"]
    assert lines_of("漢字漢字 x", 5) == ["漢字", "漢字", "x"]
    assert lines_of("", 5) == [""]
    assert lines_of("x " + " " * 9 + "y", 5) == ["x", "y"]
    assert lines_of("\tif x:", 20) == ["    if x:"]


def test_nothing_drives_the_terminal():
    hostile = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08\x7f\u202e\u2066"
    shown = harmless(hostile)
    assert shown.isprintable() and "\\x1b[2J" in shown and "\\u202e" in shown
    assert harmless("a\u00a0b\u3000c\r\nd\te") == "a b c\nd    e"
    assert harmless("👩\u200d👧 \ufe0f") == "👩\u200d👧 \ufe0f"


def test_columns_stand_beside_each_other():
    out = io.StringIO()
    columns = Columns(85, ("base", "tuned"), out.write)
    left, right = "one two three " * 8, "short"
    columns.add(1, right)
    columns.finish(1)
    for word in left.split(" "):
        columns.add(0, word + " ")
    columns.finish(0)
    # the last of what was written over itself is what stays
    rows = [line.rpartition("\r")[2] for line in out.getvalue().split("\n")]
    assert rows[0].split() == ["base", "│", "tuned"] and rows[-1] == ""
    cells = [[cell.strip() for cell in row.split("│")] for row in rows[2:-1]]
    assert " ".join(cell[0] for cell in cells) == left.strip()
    assert [cell[1] for cell in cells] == ["short"] + [""] * (len(cells) - 1)
    assert {width_of(row) for row in rows[2:-1]} == {2 * 41 + 3}


def test_two_answers_need_room():
    assert fits(99) and fits(83) and not fits(79)
