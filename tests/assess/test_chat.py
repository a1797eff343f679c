"""`accord chat` as it is typed, on tiny models: the answers of `accord sample`, the reference bit
for bit, rows that the next commands read, and bad input in words.
"""

import json

import pytest
import torch
from conftest import pair_rows, write_rows
from training.helpers import json_lines, run, stopped_after
from typer.testing import CliRunner

from accord.assess.chat.conversation import Conversation
from accord.assess.chat.ctrl_c import CtrlC
from accord.assess.chat.session import COMMANDS, Session
from accord.assess.chat.sides import open_chat
from accord.assess.chat.views import JsonView
from accord.assess.generation import Sampling
from accord.cli.app import app
from accord.data.read import read
from accord.sampling import kept_row
from accord.types import Interrupted

SHORT = ["--max-new-tokens", "6", "--dtype", "float32"]


def invoke(*words, typed=""):
    return CliRunner().invoke(app, [str(word) for word in words], input=typed)


def turns(model, *lines, more=(), code=0):
    """Objects of a session whose input is these lines."""
    typed = "".join(f"{line}\n" for line in lines)
    done = invoke("chat", model, *SHORT, *more, "--json", typed=typed)
    assert done.exit_code == code, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def texts(turn):
    return {answer["by"]: answer["text"] for answer in turn["answers"]}


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    """A run of adapters that has left its base by nats, with a best checkpoint."""
    folder = tmp_path_factory.mktemp("chat")
    data = write_rows(folder / "pairs.jsonl", pair_rows(24))
    held_out = write_rows(folder / "test.jsonl", pair_rows(8, start=100))
    more = {"held_out": held_out, "steps": 6, "learning_rate": 1e-2}
    return run(tiny_folder, data, folder / "run", **more).folder


# ---------------------------------------------------------------- the answers


@pytest.mark.parametrize("drawn", [["--temperature", "0"], ["--temperature", "0.8"]])
def test_the_answers_are_those_of_sample(drawn, trained, tmp_path):
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt": "Who sat on the mat?"}])
    files = ["--prompts", prompts, "--output", tmp_path / "a.jsonl", "--k", "2"]
    assert invoke("sample", trained, *files, *SHORT, *drawn).exit_code == 0
    row = json_lines(tmp_path / "a.jsonl")[0]
    found = turns(trained, "Who sat on the mat?", *["/again"] * ("0.8" in drawn), more=drawn)
    for number, turn in enumerate(found):
        (answer,) = turn["answers"]
        assert answer["by"] == "tuned" and answer["text"] == row["completions"][number]
        assert answer["tokens"] == row["tokens"][number] and turn["row"] == number
        assert answer["logprob"] == pytest.approx(row["logprob"][number], abs=1e-4)


def test_the_reference_is_the_base_bit_for_bit(trained, tiny_folder):
    """The prompts of a conversation go on with the tuned answer, so the first turn is compared."""
    (both,) = turns(trained, "Hello", more=["--compare"])
    (bare,) = turns(tiny_folder, "Hello")
    (alone,) = turns(trained, "Hello")
    reference, tuned = both["answers"]
    assert (reference["by"], tuned["by"]) == ("base", "tuned")
    assert {**reference, "by": "model"} == bare["answers"][0]
    assert tuned == alone["answers"][0] and tuned["text"] != reference["text"]


def test_a_second_turn_is_that_of_the_conversation_computed_anew(trained):
    """The same as a session in which nothing was held, with the turns before as its history."""
    first, second = turns(trained, "Hello", "And then?", more=["--compare"])
    again = turns(trained, "Hello", "/compare", "And then?", "/compare", "/again")
    assert texts(again[0])["tuned"] == texts(first)["tuned"]
    assert texts(again[1])["tuned"] == texts(second)["tuned"]
    assert again[2]["row"] == 1


def test_a_seed_draws_others(trained):
    found = turns(trained, "Hello", "/clear", "/seed 9", "Hello", "/clear", "/seed 0", "Hello")
    first, other, again = map(texts, found)
    assert first == again != other and [turn["turn"] for turn in found] == [1, 2, 3]


def test_a_system_prompt_is_seen_by_the_model(tiny_folder):
    plain, told = turns(tiny_folder, "Hi", "/clear", "/system Be brief.", "Hi")
    (option,) = turns(tiny_folder, "Hi", more=["--system", "Be brief."])
    assert texts(told) == texts(option) != texts(plain)


def test_a_turn_that_is_taken_back_leaves_no_trace(tiny_folder):
    lines = ["Hi", "One", "/back", "Two"]
    found = turns(tiny_folder, *lines)
    assert texts(found[2]) == texts(turns(tiny_folder, "Hi", "Two")[1])


# ---------------------------------------------------------------- rows


def test_rows_go_on_to_score_pair_and_train(trained, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["/save a.jsonl", "Who sat?", "/again", "And who ran?", "/again", "/again"]
    drawn = ["--temperature", "1.5"]
    turns(trained, *lines, more=drawn)
    rows = json_lines(tmp_path / "a.jsonl")
    assert [len(row["completions"]) for row in rows] == [2, 3]
    assert rows[0]["prompt"] == "Who sat?"
    assert [turn["role"] for turn in rows[1]["prompt"]] == ["user", "assistant", "user"]
    # the second prompt goes on from the last draw of the first
    assert rows[1]["prompt"][1]["content"] == rows[0]["completions"][1]
    scored = ["--reward", "length", "--output", "scored.jsonl"]
    assert invoke("score", "a.jsonl", *scored).exit_code == 0
    for row in (scored := json_lines(tmp_path / "scored.jsonl")):
        row["rewards"] = [float(i) for i in range(len(row["rewards"]))]  # no ties
    write_rows(tmp_path / "ranked.jsonl", scored)
    paired = invoke("pair", "ranked.jsonl", "--output", "pairs.jsonl")
    assert paired.exit_code == 0, paired.output
    dataset = read("pairs.jsonl", "pairs")
    assert len(dataset.examples) == 2 and not dataset.ledger.rejected
    assert [one.chosen for one in dataset.examples] == [row["completions"][-1] for row in rows]
    # the prompts can be sampled again
    again = ["--prompts", "a.jsonl", "--k", "2", "--output", "again.jsonl"]
    assert invoke("sample", tiny_folder, *again, *SHORT).exit_code == 0


def test_preferences_are_pairs_that_train(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["Hello", "/prefer left own.jsonl", "And?", "/prefer right", "/again", "/prefer left"]
    found = turns(trained, *lines, more=["--compare", "--temperature", "1.5"])
    rows = json_lines(tmp_path / "own.jsonl")
    first, second, third = map(texts, found)
    for row, turn, better in zip(
        rows, (first, second, third), ("base", "tuned", "base"), strict=True
    ):
        worse = "tuned" if better == "base" else "base"
        assert (row["chosen"], row["rejected"]) == (turn[better], turn[worse])
    assert rows[1]["prompt"][1]["content"] == first["base"]  # it went on with what was preferred
    dataset = read("own.jsonl", "pairs")
    assert len(dataset.examples) == 3 and not dataset.ledger.rejected
    assert [one.chosen for one in dataset.examples] == [row["chosen"] for row in rows]


def test_preferences_stand_beside_the_saved_answers(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    turns(trained, "/save a.jsonl", "Hello", "/prefer left", more=["--compare"])
    assert len(json_lines(tmp_path / "a.pairs.jsonl")) == 1
    (row,) = json_lines(tmp_path / "a.jsonl")
    assert row["provenance"]["drawn_by"] == ["base", "tuned"]
    assert row["provenance"]["reference"] == "adapters off"


def test_no_draw_is_saved_twice(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    turns(trained, "/save a.jsonl", "One", "Two", "/back", "/again", "/clear")
    rows = json_lines(tmp_path / "a.jsonl")
    assert [row["prompt"] for row in rows] == ["One", "One"]
    assert [row["provenance"]["rows"] for row in rows] == [[0], [1]]


# ---------------------------------------------------------------- what can be talked to


def test_every_kind_of_model(trained, tmp_path):
    """The run, its adapter, and a merged export speak alike."""
    expected = texts(turns(trained, "Hello", more=["--temperature", "0"])[0])["tuned"]
    merged = tmp_path / "merged"
    done = invoke("export", trained, "--merge", "--output", merged)
    assert done.exit_code == 0, done.output
    for model in (trained / "adapter", merged):
        (turn,) = turns(model, "Hello", more=["--temperature", "0", "--compare"])
        assert texts(turn)["tuned"] == expected
        assert texts(turn)["base"] != expected


def test_a_checkpoint_and_a_run_that_has_not_finished(
    trained, tiny_folder, pairs_file, tmp_path, monkeypatch
):
    best = invoke("chat", trained, *SHORT, "--checkpoint", "best", typed="Hi\n")
    assert best.exit_code == 0 and "best checkpoint, step" in best.stderr
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "run", steps=4)
    done = invoke("chat", tmp_path / "run", *SHORT, typed="Hi\n")
    assert done.exit_code == 0 and "step 2 of a run that has not finished" in done.stderr
    none = invoke("chat", tmp_path / "run", *SHORT, "--checkpoint", "best", typed="Hi\n")
    assert none.exit_code == 2 and "has no best checkpoint" in none.stderr


def test_a_run_of_all_weights_has_its_start_as_a_second_model(tiny_folder, pairs_file, tmp_path):
    more = {"lora": False, "steps": 3, "learning_rate": 1e-2}
    folder = run(tiny_folder, pairs_file, tmp_path / "run", **more).folder
    done = invoke("chat", folder, *SHORT, "--compare", "--json", typed="Hello\n")
    (turn,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert "a second model" in done.stderr and "MB more memory" in done.stderr
    assert texts(turn)["base"] == texts(turns(tiny_folder, "Hello")[0])["model"]
    assert texts(turn)["base"] != texts(turn)["tuned"]


def test_text_without_a_template(tiny_folder, tmp_path, tokenizer):
    """A base model is said to have no template; its lines know nothing of each other."""
    from shutil import copytree

    base = tmp_path / "base"
    copytree(tiny_folder, base)
    (base / "chat_template.jinja").unlink()
    done = invoke("chat", base, *SHORT, typed="The cat\nThe cat\n")
    first, second = done.stdout.split("\n")[:2]
    assert done.exit_code == 0 and "! no chat template" in done.stderr and first == second
    raw = turns(tiny_folder, "The cat", more=["--template", "raw"])
    assert texts(raw[0]) == texts(turns(base, "The cat")[0])
    done = invoke("chat", base, *SHORT, "--system", "Be brief.", typed="Hi\n")
    assert done.exit_code == 2 and "--system does nothing" in done.stderr


# ---------------------------------------------------------------- bad input


def test_what_is_no_model_is_named_with_what_to_type(pairs_file, tiny_folder, tmp_path):
    """A file of rows; a run that was refused, and so has no weights."""
    done = invoke("chat", pairs_file, *SHORT)
    assert done.exit_code == 2 and f"accord train --data {pairs_file}" in done.stderr
    options = ("--model", tiny_folder, "--output", tmp_path / "r", "--set", "data.max_tokens=8")
    assert invoke("train", pairs_file, *options).exit_code == 3
    for command in ("chat", "export", "eval", "report"):
        done = invoke(command, tmp_path / "r")
        assert done.exit_code in (2, 6) and "ended before its first update" in done.stderr
        assert "no row is usable" in done.stderr and "accord resume" in done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/sytem Be brief.", "Did you mean /system?"),
        ("/foo", "/foo: there is no such command. /help lists all"),
        ("/back", "/back: nothing was asked yet"),
        ("/again", "nothing was asked yet"),
        ("/prefer left", "nothing was asked yet"),
        ("/prefer", "needs the better side"),
        ("/compare", "nothing says what it was trained from"),
        ("/seed one", "expected a whole number"),
        ("/seed ١", "expected a whole number"),
        ("/save", "needs a file"),
        ("/save a.txt", "ends in .jsonl"),
        ("/clear all", "takes nothing behind it"),
        ("<|im_start|>system", "a special token stands in the text"),
        ("the cat sat " * 300, "tokens, and the model has 512 positions"),
        (b"\xff\xfe caf\xe9".decode("utf-8", "surrogateescape"), "no text in UTF-8"),
    ],
)
def test_a_line_that_is_not_obeyed_says_why(line, words, tiny_folder, sessions):
    """The next one is answered all the same."""
    session, said = sessions(tiny_folder)
    assert session.obey(line) and session.problems == 1
    assert session.obey("Hello")
    problem, turn = said()
    assert words in problem["says"] and not problem["ok"] and turn["turn"] == 1


@pytest.fixture
def sessions():
    """Make a session of a model, and a function that returns what it has said so far."""
    import io

    def begin(model, **sampling):
        out = io.StringIO()
        opened = open_chat(str(model), dtype="float32", template=None, checkpoint=None)
        options = Sampling(1, **{"max_new_tokens": 4} | sampling)
        session = Session(opened, JsonView(out, io.StringIO()), options, Conversation(), CtrlC())
        return session, lambda: [json.loads(line) for line in out.getvalue().splitlines()]

    return begin


def test_turns_compute_only_what_is_new(trained, sessions):
    """The first prompt goes through each model once. An answer whose text has other tokens than
    were drawn, as a random model's may, is computed from there on.
    """
    session, said = sessions(trained, temperature=0)
    session.obey("/compare")
    session.obey("Hello")
    first = session._ids(session.conversation.last.asked)
    before = [(side.row.held, side.row.computed) for side in session.sides()]
    session.obey("And then?")
    second = session._ids(session.conversation.last.asked)
    answers = said()[1]["answers"]
    for side, (held, computed), answer in zip(session.sides(), before, answers, strict=True):
        alike = [a == b for a, b in zip(held, second, strict=False)]  # as far as both go
        common = [*alike, False].index(False)
        assert common >= len(first) > 20
        new = len(second) - common + answer["tokens"] - 1  # the last one is not computed
        assert side.row.computed - computed == new


def test_memory_that_runs_out_ends_no_session(tiny_folder, sessions, monkeypatch):
    session, said = sessions(tiny_folder)
    with monkeypatch.context() as patch:

        def full(*_):
            raise torch.OutOfMemoryError("out of memory")

        patch.setattr(kept_row, "call", full)
        session.tuned.row.way = kept_row.PIECES  # as after a first answer
        session.obey("Hello")
    session.obey("Hello")
    problem, turn = said()
    assert "Memory ran out" in problem["says"] and turn["turn"] == 1


def test_room_for_the_answer_is_what_the_prompt_leaves(tiny_folder, sessions):
    session, said = sessions(tiny_folder, max_new_tokens=500)
    session.obey("Hello")
    (turn,) = said()
    assert turn["answers"][0]["tokens"] < 500


def test_again_at_temperature_0_would_change_nothing(tiny_folder, sessions):
    session, said = sessions(tiny_folder, temperature=0)
    for line in ("Hello", "/again", "/seed 3"):
        session.obey(line)
    assert [one["ok"] for one in said()] == [True, False, False]
    assert "at temperature 0" in said()[1]["says"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--temperature", "0", "--top-p", "0.9"], "--top-p does nothing"),
        (["--temperature", "0", "--seed", "1"], "--seed does nothing"),
        (["--temperature", "-1"], "temperature is -1"),
        (["--top-p", "0"], "top_p is 0"),
        (["--max-new-tokens", "0"], "at least one token"),
        (["--checkpoint", "best"], "is about a run's folder"),
        (["--checkpoint", "newest"], "expected latest or best"),
        (["--template", "raw", "--system", "x"], "--system does nothing"),
        (["--compare"], "nothing says what it was trained from"),
        (["--dtype", "int4"], "expected float32 or bfloat16"),
    ],
)
def test_options_that_do_nothing_are_errors(options, words, tiny_folder):
    done = invoke("chat", tiny_folder, *options, typed="Hello\n")
    assert done.exit_code == 2 and words in done.stderr and not done.stdout


def test_a_pipe_answers_each_line_and_says_which_failed(tiny_folder):
    done = invoke("chat", tiny_folder, *SHORT, typed="Hello\n\nAgain\n")
    assert done.exit_code == 0 and "\x1b" not in done.stdout + done.stderr
    done = invoke("chat", tiny_folder, *SHORT, typed="Hello\n/nope\nAgain\n")
    assert done.exit_code == 3 and "1 line could not be answered" in done.stderr
    assert invoke("chat", tiny_folder, *SHORT, typed="").exit_code == 0
    assert len(turns(tiny_folder, "Hello", "/quit", "never read")) == 1


def test_two_slashes_begin_a_prompt(tiny_folder):
    (turn,) = turns(tiny_folder, "//etc/hosts")
    assert turn["prompt"] == "/etc/hosts"


def test_every_command_is_in_the_help(tiny_folder):
    done = invoke("chat", tiny_folder, *SHORT, typed="/help\n")
    assert all(f"/{name}" in done.stderr for name in COMMANDS) and done.exit_code == 0
