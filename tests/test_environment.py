"""Where warnings go: a library's into the run's folder or behind the command's own words, never
into the middle of a display; accord's own to the terminal at once.
"""

import json
import logging
import os
import sys
import warnings
from contextlib import contextmanager

import pytest

from accord.cli.app import _run
from accord.environment import settings
from accord.environment.settings import DROPPED, LOG, keep_warnings, warn_once, warnings_of_command
from accord.errors import AccordWarning


@pytest.fixture(autouse=True)
def as_in_a_terminal(monkeypatch):
    """Nothing was warned of before."""
    monkeypatch.setattr(settings, "_warned", set())


@contextmanager
def python_shows_warnings():
    """Every warning is shown, and the root logger has no handler of pytest's."""
    handlers = logging.root.handlers
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.root.handlers = []
        try:
            yield
        finally:
            logging.root.handlers = handlers


def library_noise():
    """All the ways in which libraries speak: Python's warnings, transformers' logger, which has a
    handler of its own, and peft's, which has none.
    """
    from transformers.utils import logging as theirs

    warnings.warn("deprecated in a library", FutureWarning)  # noqa: B028
    theirs.get_logger("transformers.models.llama").warning("a tensor is odd")
    logging.getLogger("peft.tuners").warning("an adapter is %s", "odd")
    late = logging.getLogger("torch.late")  # a handler that it gives itself just now
    late.addHandler(logging.StreamHandler(sys.stderr))
    late.propagate = False
    late.error("a kernel is odd")
    late.handlers.clear()
    late.propagate = True


NOISE = ("deprecated in a library", "a tensor is odd", "an adapter is odd", "a kernel is odd")


@pytest.fixture
def on_stderr(monkeypatch, capsys):
    """transformers' handler wrote to the standard error of the time when it was imported."""
    from transformers.utils import logging as theirs

    theirs.get_logger("transformers")
    # other tests of this process may have made it quiet (forward/tiny.py does)
    for name in ("transformers", "peft", "torch"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.WARNING)
        logging.getLogger(name).manager._clear_cache()
    for handler in logging.getLogger("transformers").handlers:
        if type(handler) is logging.StreamHandler:
            monkeypatch.setattr(handler, "stream", sys.stderr)
    return capsys


def test_all_of_it_reaches_a_terminal_without_us(on_stderr):
    """Else the tests below would hold for nothing."""
    # pytest takes what Python's warnings would print
    with python_shows_warnings(), pytest.warns(FutureWarning, match=NOISE[0]):
        library_noise()
    said = on_stderr.readouterr().err
    assert all(words in said for words in NOISE[1:])


def test_a_library_writes_into_the_file_once(on_stderr, tmp_path):
    before = logging.StreamHandler.emit, warnings.showwarning
    with python_shows_warnings():
        with keep_warnings(tmp_path / LOG):
            library_noise()
            library_noise()
        assert on_stderr.readouterr().err == ""
        lines = (tmp_path / LOG).read_text().splitlines()
        assert len(lines) == 4 and all(
            words in line for words, line in zip(NOISE, lines, strict=True)
        )
        assert "/" not in lines[0].split("(")[0]
        with pytest.warns(FutureWarning, match=NOISE[0]):
            library_noise()  # afterwards all is as before
        said = on_stderr.readouterr().err
        assert all(words in said for words in NOISE[1:])
    assert (logging.StreamHandler.emit, warnings.showwarning) == before


def test_no_file_without_a_warning(tmp_path):
    with keep_warnings(tmp_path / LOG):
        pass
    assert not list(tmp_path.iterdir())


def test_after_an_error_all_is_as_before(tmp_path):
    before = logging.StreamHandler.emit, warnings.showwarning, list(settings._keepers)
    with pytest.raises(ZeroDivisionError), keep_warnings(tmp_path / LOG), warnings_of_command():
        raise ZeroDivisionError
    assert (logging.StreamHandler.emit, warnings.showwarning, settings._keepers) == before


def test_a_command_says_it_at_its_end(on_stderr):
    """Each once; accord's own at once."""
    with python_shows_warnings(), warnings_of_command():
        library_noise()
        warn_once("something of ours")
        print("in the middle", file=sys.stderr)
        library_noise()
    first, second, *rest = on_stderr.readouterr().err.splitlines()
    assert (first, second) == ("! something of ours", "in the middle")
    assert len(rest) == 4 and all(line.startswith("· a library's warning: ") for line in rest)


def test_what_a_run_has_in_its_file_is_not_said_again(on_stderr, tmp_path):
    """A run inside a command: the file has it. Where it cannot be written, the command does."""
    with python_shows_warnings(), warnings_of_command():
        with keep_warnings(tmp_path / LOG):
            library_noise()
            warn_once("something of ours")
        with keep_warnings(tmp_path / "no such folder" / LOG):
            warnings.warn("lost otherwise", UserWarning, stacklevel=2)
    said = on_stderr.readouterr().err.splitlines()
    assert said[0] == "! something of ours" and len(said) == 2 and "lost otherwise" in said[1]
    assert "something of ours" in (tmp_path / LOG).read_text()


def test_other_ranks_are_silent(on_stderr, monkeypatch):
    monkeypatch.setattr(settings, "ranks", lambda: (1, 2))
    with python_shows_warnings(), warnings_of_command():
        library_noise()
    assert on_stderr.readouterr().err == ""


def test_dropped_by_name(on_stderr, tmp_path):
    """Each with its reason; and nothing else."""
    assert all(DROPPED.values())
    with python_shows_warnings(), keep_warnings(tmp_path / LOG):
        warnings.warn("`is_gradient_checkpointing` is deprecated", FutureWarning, stacklevel=2)
    assert not (tmp_path / LOG).exists()


def test_loggers_of_a_users_own_program_are_left_alone(on_stderr, tmp_path):
    own = logging.getLogger("my_rewards")
    handler = logging.StreamHandler(sys.stderr)
    own.addHandler(handler)
    try:
        with keep_warnings(tmp_path / LOG):
            own.warning("my own line")
    finally:
        own.removeHandler(handler)
    assert on_stderr.readouterr().err == "my own line\n" and not (tmp_path / LOG).exists()


def test_a_record_that_cannot_be_formatted_stops_nothing(on_stderr, tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with keep_warnings(tmp_path / LOG):
        logging.getLogger("peft").warning("%d", "no number")


def test_python_callers_get_a_warning_of_python(tmp_path):
    """Inside a run too, by its class, so that they can filter it."""
    with pytest.warns(AccordWarning, match="something of ours"), keep_warnings(tmp_path / LOG):
        warn_once("something of ours")
    assert "something of ours" in (tmp_path / LOG).read_text()


@pytest.mark.versions
def test_a_run_shows_nothing_of_it_in_its_display(
    tiny_folder, pairs_file, tmp_path, on_stderr, monkeypatch
):
    """At every update, through the command line: the display's lines are all that there is."""
    from accord.config import schema
    from accord.runs.display import Display
    from accord.training import loop
    from accord.training.run import start

    update = loop.make_update

    def noisy(*arguments, **keywords):
        library_noise()
        return update(*arguments, **keywords)

    monkeypatch.setattr(loop, "make_update", noisy)
    made = schema.make_config(
        {
            "model": {"name": str(tiny_folder), "dtype": "float32"},
            "data": {"train": str(pairs_file)},
            "train": {"steps": 3, "batch_size": 4},
            "output": str(tmp_path / "run"),
        }
    )
    with python_shows_warnings():
        _run(lambda: start(made, Display(sys.stderr)).as_dict(), as_json=True)
    captured = on_stderr.readouterr()
    assert json.loads(captured.out)["ok"]
    assert "step     3/3" in captured.err
    assert not any(words in captured.err for words in NOISE)
    log = (tmp_path / "run" / LOG).read_text()
    assert all(log.count(words) == 1 for words in NOISE)


def test_few_kernels_are_kept_unless_a_user_says_otherwise(monkeypatch):
    """Before anything is computed, and in both caches: each holds what the other lets go."""
    names = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
    for own, kept in (({}, ["64", "64"]), ({names[0]: "9"}, ["9", "64"])):
        monkeypatch.setattr(os, "environ", own)
        settings.apply_env_defaults()
        assert [own[name] for name in names] == kept
