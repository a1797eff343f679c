"""How a command ends that cannot go on: a bug in two lines with its traceback in a file; a broken
package, a full disk or a missing home in words; nothing with a traceback on the terminal.
"""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from accord.distributed import world
from accord.environment import faults
from accord.errors import Bug, CheckpointError, UsageError

SOURCE = str(Path(faults.__file__).parents[2])
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"
FAULTY = """
import sys
{fault}
from accord.__main__ import main
main()
"""
# What a command comes through, broken; in place of what would take seconds to import.
STANDS_IN = """
import pathlib, types
from accord.environment import faults
def broken(*given, **named):
    pathlib.Path("run").mkdir()
    with faults.log_faults_in(pathlib.Path("run")):
        1 / 0
m = sys.modules["accord.training.run"] = types.ModuleType("accord.training.run")
m.start = m.dry_run = broken
"""
FAULTS = {
    "train": STANDS_IN,
    "audit": "import accord.auditing.run as m; m.audit = lambda *a, **k: 1 / 0",
    "doctor": "import accord.verify.doctor as m; m.run_checks = lambda *a, **k: 1 / 0",
    "methods": "import accord.cli.app as m; m.app = lambda: 1 / 0",
}


@pytest.fixture
def accord(tmp_path):
    """Run a command in a process of its own, in an empty folder with an empty cache."""

    def call(*arguments, fault="", code=None, **environment):
        here = {**os.environ, "ACCORD_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
        here["PYTHONPATH"] = os.pathsep.join([SOURCE, here.get("PYTHONPATH", "")])
        here.pop(faults.DEBUG, None)
        here |= {name: value for name, value in environment.items() if value is not None}
        for name in [name for name, value in environment.items() if value is None]:
            here.pop(name, None)
        done = subprocess.run(
            [sys.executable, "-c", FAULTY.format(fault=fault), *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=here,
        )
        if code is not None:
            assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
            assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return done

    return call


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    return file


def arguments(command, rows) -> list:
    more = {
        "train": ["--data", rows, "--model", "smollm2", "--steps", 1, "--output", "run"],
        "audit": [rows],
    }
    return [command, *more.get(command, [])]


# ---------------------------------------------------------------- bugs


@pytest.mark.parametrize("command", FAULTS)
def test_a_bug_ends_in_two_lines(command, accord, rows, tmp_path):
    """What was being done; that it is a bug, and where the traceback lies. Exit 1."""
    done = accord(*arguments(command, rows), fault=FAULTS[command], code=1)
    first, second = done.stderr.splitlines()[-2:]
    assert first.startswith(f"error: accord {command} failed")
    assert "ZeroDivisionError: division by zero" in first
    assert "This is a bug of accord" in second
    log = tmp_path / second.rpartition(" ")[2]
    folder = tmp_path / ("run" if command == "train" else "cache/bugs")
    assert log.parent == folder and stat.S_IMODE(log.stat().st_mode) == 0o600
    text = log.read_text()
    assert "Traceback (most recent call last)" in text and "ZeroDivisionError" in text
    assert f"accord {command}" in text and "torch " in text  # what was typed, with which versions


def test_a_bug_for_machines(accord, rows):
    done = accord(*arguments("audit", rows), "--json", fault=FAULTS["audit"], code=1)
    said = json.loads(done.stdout)
    assert (said["ok"], said["bug"], said["exit"]) == (False, True, 1)
    assert said["error"] == "ZeroDivisionError" and os.path.isfile(said["log"])
    assert said["log"] in said["says"] and len(done.stderr.splitlines()) == 2


def test_secrets_are_hidden(accord, rows, tmp_path):
    """In the words and in the log: tokens by their shape, and values of secret variables."""
    raises = f"def f(*a, **k): raise OSError('{TOKEN} swordfish1234')"
    fault = f"import accord.auditing.run as m\n{raises}\nm.audit = f"
    done = accord(*arguments("audit", rows), fault=fault, code=1, MY_PASSWORD="swordfish1234")
    (log,) = (tmp_path / "cache/bugs").iterdir()
    for text in (done.stderr, log.read_text()):
        assert TOKEN not in text and "swordfish1234" not in text and "***" in text


def test_without_a_place_for_the_log_the_traceback_follows(monkeypatch, capsys):
    monkeypatch.setattr(faults, "_written", lambda *given: None)
    with pytest.raises(SystemExit) as ended:
        faults.end(ZeroDivisionError("x"), as_json=False)
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1 and "which follows" in said[1]
    assert said[2] == "ZeroDivisionError: x"


def test_the_next_place_is_taken_where_one_cannot_be_written(tmp_path, monkeypatch):
    """A cache below a file; root may write anywhere, but not there."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "file/cache"))
    monkeypatch.setattr(faults.tempfile, "gettempdir", lambda: str(tmp_path / "temp"))
    assert faults.log(ZeroDivisionError()).parent == tmp_path / "temp"


def test_debugging_raises_it_as_it_is(accord, rows):
    done = accord(*arguments("audit", rows), fault=FAULTS["audit"], ACCORD_DEBUG="1")
    assert done.returncode == 1 and "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_what_was_being_done(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path))
    monkeypatch.setattr(faults, "_doing", ["reading rows.jsonl"])
    assert "while reading rows.jsonl: KeyError" in str(faults._bug(KeyError("x")))


# ---------------------------------------------------------------- ranks


@pytest.fixture
def second_rank(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "here"}.items():
        monkeypatch.setenv(name, value)


def ended(error, capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as done:
        faults.end(error, as_json=True)
    said = capsys.readouterr()
    return done.value.code, said.out + said.err


def test_before_the_ranks_meet_the_first_speaks_for_all(second_rank, monkeypatch, capsys):
    assert ended(ZeroDivisionError("x"), capsys) == (1, "")
    monkeypatch.setenv("RANK", "0")
    code, said = ended(ZeroDivisionError("x"), capsys)
    assert code == 1 and "rank 0 of 2: accord" in said


def test_a_rank_that_alone_knows_speaks(second_rank, capsys, tmp_path):
    with pytest.raises(ZeroDivisionError) as raised, faults.log_faults_in(tmp_path):
        raise ZeroDivisionError("x")
    code, said = ended(raised.value, capsys)
    assert code == 1 and "rank 1 of 2: accord" in said
    assert [file.name.split("-")[3] for file in tmp_path.glob("bug-*")] == ["rank1"]


def test_a_bug_on_one_rank_is_told_to_the_others(second_rank):
    """With the place of its traceback; and the rank itself writes no second one."""
    error = ZeroDivisionError("x")
    told = world._read(world._told(error)[world.FAILED])
    assert "failed with ZeroDivisionError: x" in told["says"] and "bug of accord" in told["says"]
    assert str(faults.log(error)) in told["says"]


# ---------------------------------------------------------------- packages that do not work

BROKEN = {
    "an import that fails": ("raise ImportError('cannot import name spam')", "cannot import name"),
    "a library that is not there": (
        "raise OSError('libgomp.so.1: cannot open shared object file')",
        "OSError: libgomp.so.1",
    ),
    "an attribute that is not there": ("import os; os.spam", "no attribute 'spam'"),
    "an exception of its own": ("raise RuntimeError('compiled with NumPy 1')", "NumPy 1"),
    "not Python": ("spam spam", "SyntaxError"),
    "an empty stub": ("", "no attribute"),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("command", ["train", "doctor"])
def test_a_broken_torch_ends_in_words(what, command, accord, rows, tmp_path):
    """Named, with its cause and the command that installs it afresh; exit 2."""
    source, words = BROKEN[what]
    (tmp_path / "torch.py").write_text(source + "\n")
    done = accord(*arguments(command, rows), fault=f"sys.path.insert(0, {str(tmp_path)!r})", code=2)
    assert "package torch" in done.stderr and "pip install" in done.stderr, done.stderr
    assert words in done.stderr or what == "an empty stub"
    assert not (tmp_path / "cache/bugs").exists()


@pytest.mark.parametrize("module, package", [("typer", "typer"), ("pydantic", "pydantic")])
def test_a_broken_package_under_the_command_line(module, package, accord, rows, tmp_path):
    """Also where the command line itself needs it, and for machines."""
    (tmp_path / f"{module}.py").write_text("raise ImportError('half installed')\n")
    fault = f"sys.path.insert(0, {str(tmp_path)!r})"
    done = accord(*arguments("train", rows), "--json", fault=fault, code=2)
    said = json.loads(done.stdout)
    assert said["error"] == "UsageError" and f"package {package} " in said["says"]


def test_a_package_that_is_not_installed(accord, rows):
    fault = "sys.modules['transformers'] = None"
    done = accord("doctor", fault=fault, code=2)
    assert "package transformers" in done.stderr


def test_what_is_no_package_of_ours_is_a_bug():
    """A user's module, and accord's own."""
    for name in ("accord.nothing", "__main__"):
        assert faults.as_accord_error(ModuleNotFoundError("x", name=name)) is None
    assert faults.as_accord_error(AttributeError("x", name="y", obj=object())) is None
    assert faults.as_accord_error(AttributeError("x", name="y", obj=faults)) is None


def test_a_python_without_a_part_of_itself():
    said = faults.as_accord_error(ModuleNotFoundError("No module named '_ctypes'", name="_ctypes"))
    assert isinstance(said, UsageError) and "lacks its own module _ctypes" in str(said)


# ---------------------------------------------------------------- disks and homes


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system", "cache/x"),
        PermissionError(errno.EACCES, "Permission denied", "cache/x"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory", "cache/x"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        ValueError("database or disk is full"),
    ],
)
def test_a_disk_that_cannot_be_written(error):
    said = faults.as_accord_error(error)
    assert isinstance(said, CheckpointError) and said.code == 6
    assert ("\n" not in str(said) and str(error.args[-1])[:7] in str(said)) or "disk" in str(said)


def test_the_cause_counts_too():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "x")
        except OSError as error:
            raise ValueError("cannot save") from error
    except ValueError as error:
        assert isinstance(faults.as_accord_error(error), CheckpointError)


def test_an_os_error_of_a_library_is_a_bug():
    assert faults.as_accord_error(OSError("something")) is None
    assert faults.as_accord_error(OSError(errno.EINVAL, "Invalid argument")) is None


def test_no_home(accord):
    """A user without an entry in the system's table, and without HOME, as in some containers."""
    fault = "import os, pwd\ndef f(uid): raise KeyError(uid)\npwd.getpwuid = f"
    done = accord("play", "--no-open", fault=fault, code=2, HOME=None, ACCORD_CACHE=None)
    assert "HOME" in done.stderr and "ACCORD_CACHE" in done.stderr


def test_a_cache_that_cannot_be_written(accord, rows, tmp_path):
    """Below a file: root may write into any folder. The embedded model's, and the playground's."""
    cache = str(rows / "cache")
    for command in (["play", "--no-open"], arguments("train", rows)):
        done = accord(*command, code=6, ACCORD_CACHE=cache)
        assert str(cache) in done.stderr and "Not a directory" in done.stderr


# ---------------------------------------------------------------- the terminal


def test_a_reader_that_leaves(accord, tmp_path):
    """accord methods | head -1: nothing is said, in whatever way standard output is buffered."""
    script = FAULTY.format(fault="")
    for more in ({}, {"PYTHONUNBUFFERED": "1"}):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-c", script, "methods"],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | more | {"PYTHONPATH": SOURCE},
        )
        os.close(write)
        assert (done.returncode, done.stderr) == (faults.PIPE_CLOSED, "")


def test_a_broken_pipe_elsewhere_is_no_reader_that_left(capsys, tmp_path, monkeypatch):
    """To a process of ours, say: that is a bug."""
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path))
    code, said = ended(BrokenPipeError(errno.EPIPE, "Broken pipe"), capsys)
    assert code == 1 and "bug of accord" in said


@pytest.mark.parametrize("where", ["import", "work"])
def test_stopped_by_hand(where, accord, rows, tmp_path):
    """While packages are imported too."""
    fault = "import accord.auditing.run as m\ndef f(*a, **k): raise KeyboardInterrupt\nm.audit = f"
    if where == "import":
        (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
        fault = f"sys.path.insert(0, {str(tmp_path)!r})"
    done = accord(*arguments("audit", rows), fault=fault, code=75)
    assert done.stderr.splitlines()[-1] == "stopped."


def test_a_wrong_flag_ends_in_words(accord):
    done = accord("methods", "--json", code=2, ONEDNN_MAX_CPU_ISA="foo")
    assert "AVX512_CORE" in json.loads(done.stdout)["says"]


def test_a_bug_has_its_own_code():
    assert Bug.code == 1 and faults.as_accord_error(Bug("x")).code == 1
