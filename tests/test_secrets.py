"""Secrets get into no artefact, and a run opens no connection, unpickles nothing and starts no
other program.
"""

import json
import os
import subprocess
import sys

import pytest
from conftest import pair_rows, write_rows

from accord.cli.app import _command
from accord.config.build import build
from accord.environment.redaction import redact
from accord.errors import UsageError

PLANTED = {
    "HF_TOKEN": "hf_" + "PlantedPlantedPlanted" * 2,
    "OPENAI_API_KEY": "sk-planted-" + "0" * 30,
    "WANDB_API_KEY": "planted0wandb0key0without0shape",
    "AWS_SECRET_ACCESS_KEY": "PlantedAwsSecretAccessKey0123456789abcdef",
    "MY_PASSWORD": "planted-password-of-nobody",
}

# Python reports what it is about to do to an audit hook, whoever asks for it: a library included.
WATCHED = """
import json, os, sys
FORBIDDEN = (
    "socket.connect", "socket.getaddrinfo", "socket.bind", "pickle.find_class", "os.system",
    "os.exec", "os.posix_spawn", "subprocess.Popen", "urllib.Request", "http.client.connect",
)
seen = []
def watch(event, arguments):
    if event in FORBIDDEN:
        seen.append(f"{event} {arguments!r:.200}")
from accord.environment.settings import apply_env_defaults
apply_env_defaults()
import torch, transformers, peft  # what they do while they are imported is theirs
sys.addaudithook(watch)
from accord.cli.app import app
try:
    app(sys.argv[2:])
finally:
    open(sys.argv[1], "w").write(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def finished(tiny_folder, tmp_path_factory):
    """A short run by the command line, with held-out rows, under watch and with secrets in its
    environment.
    """
    folder = tmp_path_factory.mktemp("watched")
    data, held = (
        write_rows(folder / "pairs.jsonl", pair_rows(8)),
        write_rows(folder / "held.jsonl", pair_rows(4, start=50)),
    )
    more = [
        "--data",
        data,
        "--held-out",
        held,
        "--model",
        str(tiny_folder),
        "--steps",
        "2",
        "--batch-size",
        "4",
        "--set",
        "model.dtype=float32",
    ]
    environment = (
        {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        | PLANTED
        | {"ACCORD_CACHE": str(folder / "cache")}
    )
    command = [
        sys.executable,
        "-c",
        WATCHED,
        str(folder / "seen.json"),
        "train",
        "--output",
        str(folder / "run"),
        *more,
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_secrets_of_the_environment_are_in_no_artefact(finished):
    folder, done = finished
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 10 and (folder / "run/environment.json").is_file()
    for name, secret in PLANTED.items():
        assert secret not in done.stdout + done.stderr, name
        assert not [file for file in files if secret.encode() in file.read_bytes()], name


def test_no_network_no_pickle_no_other_program(finished):
    folder, _ = finished
    seen = json.loads((folder / "seen.json").read_text())
    # Python's own module platform asks that
    assert [event for event in seen if "['uname', '-p']" not in event] == []


def test_nothing_pickled_is_written(finished):
    folder, _ = finished
    files = [file for file in (folder / "run").rglob("*") if file.is_file()]
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".pth", ".pkl", ".npy")]
    assert not [
        file
        for file in files
        if file.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK")
    ]


def test_the_watch_notices(tmp_path):
    """Or the tests above would show nothing."""
    code = WATCHED.replace("import torch, transformers, peft", "pass").replace(
        "from accord.cli.app import app",
        "import pickle, socket; app = lambda a: (pickle.loads(pickle.dumps(print)),"
        " socket.socket().connect_ex(('127.0.0.1', 9)))",
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "seen.json")], check=True)
    assert [event.split()[0] for event in json.loads((tmp_path / "seen.json").read_text())] == [
        "pickle.find_class",
        "socket.connect",
    ]


SHAPES = [
    PLANTED["HF_TOKEN"],
    PLANTED["OPENAI_API_KEY"],
    "ghp_" + "a1" * 18,
    "AKIA" + "ABCDEFGH01234567",
    "xoxb-1234567890-abc",
    "https://me:hunter22@host/data",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x",
]


@pytest.mark.parametrize("secret", SHAPES)
@pytest.mark.parametrize(
    "field", ["data.train", "output", "model.name", "objective.source", "data.columns"]
)
def test_a_token_in_a_config_is_refused_and_not_repeated(field, secret):
    value = {"prompt": secret} if field == "data.columns" else f"/mnt/{secret}/x"
    with pytest.raises(UsageError) as error:
        build(data=None if field == "data.train" else "x.jsonl", fields={field: value})
    assert field in str(error.value) and "environment variables" in str(error.value)
    assert secret not in str(error.value)


def test_a_secret_without_a_shape_is_known_by_its_variable(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", PLANTED["WANDB_API_KEY"])
    with pytest.raises(
        UsageError, match=r"output holds what looks like a secret \('runs/\*\*\*'\)"
    ):
        build(data="x.jsonl", output=f"runs/{PLANTED['WANDB_API_KEY']}")
    assert redact(f"a {PLANTED['WANDB_API_KEY']} b") == "a *** b"


def test_the_recorded_command(monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["accord", "train", f"/mnt/{PLANTED['HF_TOKEN']}/recipe.yaml", "--steps", "3"]
    )
    assert _command() == ["accord", "train", "/mnt/***/recipe.yaml", "--steps", "3"]


def test_ordinary_words_are_no_secrets(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    for plain in (
        "runs/sk-learn",
        "hf_data/pairs.jsonl",
        "task-of-the-day/false",
        "https://host/data",
        "/home/me/ghp_x",
    ):
        assert redact(plain) == plain
        build(data=plain)
