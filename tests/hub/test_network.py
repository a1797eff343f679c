"""What goes wrong between here and a hub: each is said in words, or mended, and nothing is wrong in
silence.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import pair_rows
from hub.server import git_id, sha256

from accord.data.containers import require_there
from accord.data.read import read
from accord.environment.hub import client, store
from accord.types import AccordError, CheckpointError, DataError

TOKEN = "hf_" + "a1B2" * 8


def rows(n: int, start: int = 0) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in pair_rows(n, start)).encode()


@pytest.fixture
def pairs(hub):
    return hub.add("org/pairs", {"train.jsonl": rows(40)}, "dataset")


def refused(name: str, *words: str, error: type[AccordError] = DataError) -> str:
    with pytest.raises(error) as caught:
        require_there(name)
    for word in words:
        assert word in str(caught.value), caught.value
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def cache_of(hub) -> Path:
    return store.hub_cache() / "datasets--org--pairs"


# ---------------------------------------------------------------- names that are not there


def test_no_such_repository(hub):
    refused("hub:org/nothing", "has no data set org/nothing", "no token (HF_TOKEN is not set)")


def test_a_model_given_as_data_is_said(hub):
    hub.add("org/model", {"config.json": b"{}"})
    refused("hub:org/model", "There is a model of this name", "--model hub:org/model")


def test_no_such_revision_names_those_there_are(hub, pairs):
    pairs.commit({"train.jsonl": rows(3)}, "v2")
    refused("hub:org/pairs@v3", "org/pairs has no revision 'v3'. It has main, v2")


def test_a_gated_set_says_where_its_terms_are(hub):
    hub.add("org/gated", {"train.jsonl": rows(2)}, "dataset", gated=True, token=TOKEN)
    refused("hub:org/gated", "is gated", f"{hub.address}/datasets/org/gated", "no token")


def test_a_gated_set_opens_with_a_token(hub, monkeypatch):
    hub.add("org/gated", {"train.jsonl": rows(2)}, "dataset", gated=True, token=TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(read("hub:org/gated").examples) == 2
    assert {each.token for each in hub.requests} == {f"Bearer {TOKEN}"}


def test_a_token_without_rights(hub, monkeypatch):
    hub.add("org/gated", {"train.jsonl": rows(2)}, "dataset", gated=True, token=TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN[::-1])
    assert TOKEN[::-1] not in refused("hub:org/gated", "the token in HF_TOKEN was sent")


def test_a_private_set_needs_its_token(hub, monkeypatch):
    hub.add("org/private", {"train.jsonl": rows(2)}, "dataset", token=TOKEN)
    refused("hub:org/private", "or shows it to its members alone")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(read("hub:org/private").examples) == 2


# ---------------------------------------------------------------- the token stays here


def test_the_token_does_not_follow_to_another_host(hub, monkeypatch):
    hub.add("org/large", {"train.jsonl.gz": _packed(rows(3))}, "dataset", token=TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(read("hub:org/large").examples) == 3
    assert hub.elsewhere and not any(each.token for each in hub.elsewhere)
    assert all(TOKEN not in each.path for each in (*hub.requests, *hub.elsewhere))


def test_a_question_that_is_sent_elsewhere_leaves_the_token_behind(hub, pairs, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.redirect_api = True
    refused("hub:org/pairs", "answers nothing that a hub of models would")
    assert hub.elsewhere and not any(each.token for each in hub.elsewhere)


def test_a_token_is_not_sent_unencrypted(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    with pytest.raises(AccordError, match="would travel there unencrypted"):
        require_there("hub:org/pairs")


def test_a_token_that_a_login_saved_is_not_sent(hub, pairs, tmp_path, monkeypatch):
    from huggingface_hub import constants

    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    read("hub:org/pairs")
    assert not any(each.token for each in hub.requests)


def test_the_token_is_written_nowhere(hub, pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    read("hub:org/pairs")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files and not [file for file in files if TOKEN.encode() in file.read_bytes()]


# ---------------------------------------------------------------- answers of no hub


@pytest.mark.parametrize("answer", [b"<html>sign in</html>", b"[]", b"null", b"{}", b'{"id": 3}'])
def test_nonsense(hub, pairs, answer):
    hub.nonsense = answer
    refused("hub:org/pairs", "answers nothing that a hub of models would", "Check HF_ENDPOINT")


@pytest.mark.parametrize(
    "change",
    [
        {"sha": "main"},
        {"sha": None},
        {"siblings": None},
        {"siblings": [{"rfilename": "../../x", "size": 1, "blobId": "0" * 40}]},
        {"siblings": [{"rfilename": "/etc/passwd", "size": 1, "blobId": "0" * 40}]},
        {"siblings": [{"rfilename": "a\\..\\b", "size": 1, "blobId": "0" * 40}]},
        {"siblings": [{"rfilename": "train.jsonl", "size": 1, "blobId": "../../x"}]},
        {"siblings": [{"rfilename": "train.jsonl", "size": -1, "blobId": "0" * 40}]},
        {"siblings": [{"rfilename": "train.jsonl"}]},
    ],
)
def test_a_listing_that_cannot_be(hub, pairs, change, tmp_path):
    hub.change = change
    refused("hub:org/pairs", "answers nothing that a hub of models would")
    assert not (tmp_path / "x").exists()


def test_another_commit_than_was_asked_for(hub, pairs):
    hub.change = {"sha": "0" * 40}
    refused(f"hub:org/pairs@{pairs.branches['main']}", "asked for commit")


def test_content_that_is_not_what_is_listed(hub, pairs):
    good = rows(40)
    hub.lies["train.jsonl"] = good[:-1] + b" "
    refused("hub:org/pairs", "train.jsonl did not arrive as the hub lists it", git_id(good)[:16])
    assert not list((cache_of(hub) / "blobs").iterdir()), "thrown away"
    hub.lies.clear()
    assert len(read("hub:org/pairs").examples) == 40


def test_content_of_another_size(hub, pairs):
    hub.lies["train.jsonl"] = rows(2)
    refused("hub:org/pairs", "did not arrive whole")


# ---------------------------------------------------------------- a busy hub, a broken line


def test_a_busy_hub_is_asked_again(hub, pairs, monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    hub.busy, hub.retry_after = 2, "7"
    assert len(read("hub:org/pairs").examples) == 40
    assert waited == [7, 7]


def test_a_hub_that_stays_busy(hub, pairs):
    hub.busy, hub.retry_after = 1000, "90"
    refused("hub:org/pairs", "limits how often it is asked (429). Try again in 90 seconds")


def test_a_cut_transfer_goes_on_where_it_stopped(hub, pairs, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)  # what is lost at a cut
    hub.cut["train.jsonl"] = 1000
    assert len(read("hub:org/pairs").examples) == 40
    ranges = [each.headers.get("range") for each in hub.asked("/resolve/")]
    assert ranges == [None, "bytes=1000-"]


def test_a_killed_download_goes_on_where_it_stopped(hub, pairs):
    """What an earlier process left is not fetched again, and counts in what is still to come."""
    content = rows(40)
    blobs = cache_of(hub) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{git_id(content)}.incomplete").write_bytes(content[:1500])
    assert len(read("hub:org/pairs").examples) == 40
    assert [each.headers.get("range") for each in hub.asked("/resolve/")] == ["bytes=1500-"]
    assert [file.name for file in blobs.iterdir()] == [git_id(content)]


def test_a_killed_download_of_other_bytes_is_found_out(hub, pairs):
    content = rows(40)
    blobs = cache_of(hub) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{git_id(content)}.incomplete").write_bytes(b"x" * 1500)
    refused("hub:org/pairs", "did not arrive as the hub lists it")
    assert len(read("hub:org/pairs").examples) == 40


def test_no_network(hub, pairs, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused(
        "hub:org/pairs@v1",
        "http://127.0.0.1:9 cannot be reached",
        "hf download org/pairs --repo-type dataset --revision v1",
        "HF_HUB_OFFLINE=1",
    )


def test_no_network_and_a_full_cache(hub, pairs, monkeypatch):
    """The commit last seen is taken, and that is said."""
    commit = pairs.branches["main"]
    read("hub:org/pairs")
    client.forget()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.warns(
        UserWarning, match=f"cannot be reached, so its commit is the one last.*{commit}"
    ):
        assert read("hub:org/pairs").path == f"hub:org/pairs@{commit}"


# ---------------------------------------------------------------- without a network, by wish


def test_offline_takes_the_cache_alone(hub, pairs, monkeypatch):
    from huggingface_hub import constants

    commit = pairs.branches["main"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("hub:org/pairs", "HF_HUB_OFFLINE keeps accord off the network", "hf download org/pairs")
    assert not hub.requests
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    read("hub:org/pairs")
    client.forget()
    before = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.warns(UserWarning, match=f"HF_HUB_OFFLINE is set.*last seen, {commit}"):
        assert len(read("hub:org/pairs").examples) == 40
    assert len(hub.requests) == before


def test_what_hf_download_fetched_is_taken(hub, pairs, monkeypatch):
    """The cache is the one that all tools share, in both directions."""
    from huggingface_hub import constants, snapshot_download

    options = dict(repo_type="dataset", endpoint=hub.address, cache_dir=constants.HF_HUB_CACHE)
    folder = snapshot_download("org/pairs", token=False, **options)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.warns(UserWarning, match="last seen"):
        found = read("hub:org/pairs")
    assert len(found.examples) == 40 and Path(folder).name in found.path


def test_other_tools_find_what_was_fetched(hub, pairs):
    from huggingface_hub import constants, snapshot_download

    read("hub:org/pairs")
    before = len(hub.asked("/resolve/"))
    options = dict(repo_type="dataset", endpoint=hub.address, cache_dir=constants.HF_HUB_CACHE)
    folder = Path(snapshot_download("org/pairs", token=False, **options))
    assert (folder / "train.jsonl").read_bytes() == rows(40)
    assert len(hub.asked("/resolve/")) == before


def test_a_name_lifts_what_accord_itself_sets(hub, pairs, monkeypatch):
    """Commands keep libraries offline; a name with hub: is fetched all the same."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "on")
    assert len(read("hub:org/pairs").examples) == 40
    assert constants.HF_HUB_OFFLINE is True, "for libraries it stays"


# ---------------------------------------------------------------- a branch that moves, a full disk


def test_a_moved_branch_is_said(hub, pairs):
    old = pairs.branches["main"]
    read("hub:org/pairs")
    new = pairs.commit({"train.jsonl": rows(12)})
    client.forget()
    with pytest.warns(UserWarning, match=f"main has moved .* from {old} to {new}.*@{old}"):
        assert len(read("hub:org/pairs").examples) == 12
    assert len(read(f"hub:org/pairs@{old}").examples) == 40


def test_one_process_reads_one_commit(hub, pairs):
    read("hub:org/pairs")
    pairs.commit({"train.jsonl": rows(12)})
    assert len(read("hub:org/pairs").examples) == 40


def test_a_full_disk_is_said_before_a_byte(hub, pairs, monkeypatch):
    usage = type("Usage", (), {"free": store.MARGIN + 100})
    monkeypatch.setattr(store.shutil, "disk_usage", lambda folder: usage)
    refused(
        "hub:org/pairs",
        f"{len(rows(40)) / 1000:.1f} kB have to be fetched",
        "has room for 0.1 kB",
        "HF_HOME",
        "Or take its first rows alone, such as hub:org/pairs@",
        "#train[:100000]",
        error=CheckpointError,
    )
    assert not hub.asked("/resolve/")


def test_a_cache_that_cannot_be_written(hub, pairs, monkeypatch):
    from huggingface_hub import constants

    file = Path(constants.HF_HUB_CACHE)
    file.write_text("a file where a folder should be")
    refused("hub:org/pairs", "cannot be written", "HF_HOME", error=CheckpointError)


def test_sizes_are_written_for_people():
    shown = [store.size_in_words(n) for n in (0, 1_500, 12_345, 3_400_000, 15_000_000_000)]
    assert shown == ["0.0 kB", "1.5 kB", "12 kB", "3.4 MB", "15 GB"]


# ---------------------------------------------------------------- as a command


def test_a_command_reads_a_hub(hub, pairs, tmp_path):
    """HF_ENDPOINT, HF_HOME and the offline default of commands, in a process of their own."""
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_TOKEN")},
        "HF_HOME": str(tmp_path / "home"),
        "HF_ENDPOINT": hub.address,
    }
    words = ["audit", "hub:org/pairs", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "accord", *words],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode in (0, 3), done.stderr
    commit = pairs.branches["main"]
    assert f"hub:org/pairs@{commit}" in done.stdout
    assert "fetching 1 file" in done.stderr and "Traceback" not in done.stderr
    again = subprocess.run(
        [sys.executable, "-m", "accord", "audit", "hub:org/nothing"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=300,
    )
    assert again.returncode == 3 and "has no data set org/nothing" in again.stderr
    assert "Traceback" not in again.stderr


def _packed(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content)


def test_the_servers_digests_are_gits():
    """`git hash-object` and `sha256sum` of the two bytes "x\\n"."""
    assert git_id(b"x\n") == "587be6b4c3f93f93c489c0111bba5596147a26cb"
    assert sha256(b"x\n").startswith(
        "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac"
    )
