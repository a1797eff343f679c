"""The command for another harness names what was exported, as that harness loads it."""

import json
import shlex

import pytest
from conftest import pair_rows, write_rows
from training.helpers import run
from typer.testing import CliRunner

from accord.assess.handover import check, command
from accord.cli.app import app
from accord.types import UsageError


def exported(folder, adapter: str | None = None, chat: bool = True):
    folder.mkdir()
    if adapter is not None:
        (folder / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": adapter})
        )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "{{ messages }}"} if chat else {})
    )
    return folder


def test_lm_eval_gets_base_and_adapter(tmp_path):
    folder = exported(tmp_path / "an export", adapter="/models/base")
    words = shlex.split(command("lm-eval", folder))
    arguments = dict(part.split("=") for part in words[words.index("--model_args") + 1].split(","))
    assert (
        arguments["pretrained"] == "/models/base"
        and arguments["peft"] == str(folder)
        and "--apply_chat_template" in words
    )


def test_a_whole_model_stands_alone(tmp_path):
    folder = exported(tmp_path / "whole", chat=False)
    words = shlex.split(command("lm-eval", folder))
    assert f"pretrained={folder},dtype=auto" in words and "--apply_chat_template" not in words
    words = shlex.split(command("inspect-ai", folder))
    assert words[:2] == ["inspect", "eval"] and f"model_path={folder}" in words


def test_what_a_harness_cannot_load_is_said_before_the_export(tmp_path):
    for arguments, says in [
        (("lighteval", None, False, True), "expected lm-eval or inspect-ai"),
        (("inspect-ai", None, False, True), "Add --merge"),
        (("lm-eval", "a,b", False, True), "comma"),
    ]:
        harness, output, merge, adapters = arguments
        with pytest.raises(UsageError, match=says):
            check(harness, output, merge=merge, adapters=adapters)
    check("inspect-ai", None, merge=True, adapters=True)
    check(None, "a,b", merge=False, adapters=True)
    with pytest.raises(UsageError, match="cannot hold"):
        command("lm-eval", exported(tmp_path / "x", adapter="/models/a=b"))


def test_export_prints_the_command(tiny_folder, tmp_path):
    """For an adapter it is refused where the harness loads whole models, before anything is
    written.
    """
    result = run(
        tiny_folder, write_rows(tmp_path / "p.jsonl", pair_rows(24)), tmp_path / "run", steps=2
    )
    out = tmp_path / "merged"
    flags = ["export", str(result.folder), "--output", str(out), "--for", "inspect-ai"]
    refused = CliRunner().invoke(app, flags)
    assert refused.exit_code == 2 and "Add --merge" in refused.stderr and not out.exists()
    done = CliRunner().invoke(app, [*flags, "--merge", "--dtype", "float32", "--json"])
    assert done.exit_code == 0, done.output
    assert f"model_path={out}" in json.loads(done.stdout.splitlines()[-1])["result"]["evaluate"]
