"""A hub on the loopback address, with its own cache and accord's own; nothing goes further."""

from pathlib import Path

import pytest
from hub.server import serve
from training.conftest import tokenizer  # noqa: F401


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Serve an empty hub that HF_ENDPOINT names. No token is set, and nobody waits."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    from accord.environment import settings
    from accord.environment.hub import client

    client.forget()
    settings._warned.clear()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "accord-cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with serve() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.address)
        yield made
    close_session()
    client.forget()


@pytest.fixture
def model_files(tiny_folder) -> dict[str, bytes]:
    """The files of a small model."""
    return {file.name: file.read_bytes() for file in Path(tiny_folder).iterdir() if file.is_file()}
