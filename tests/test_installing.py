"""The command that installs a package: into the environment that runs, whoever made it."""

from __future__ import annotations

import sys

import pytest

from accord.environment import installing
from accord.environment.installing import install_line


@pytest.fixture
def found(monkeypatch):
    """Set what is on the path, and whether pip can be imported."""

    def set_(pip: str | None, importable: bool) -> None:
        monkeypatch.setattr(sys, "executable", "/home/me/an env/bin/python")
        monkeypatch.setattr(sys, "prefix", "/home/me/an env")
        monkeypatch.setattr(installing.shutil, "which", lambda name: pip)
        spec = object() if importable else None
        monkeypatch.setattr(installing.importlib.util, "find_spec", lambda name: spec)

    return set_


def test_an_activated_environment_has_its_own_pip(found):
    found("/home/me/an env/bin/pip", True)
    assert install_line("a", "accord[zstd]") == "pip install a 'accord[zstd]'"
    assert install_line("a", options="--no-deps") == "pip install --no-deps a"


def test_another_environment_s_pip_would_install_elsewhere(found):
    found("/usr/bin/pip", True)
    assert install_line("a") == "'/home/me/an env/bin/python' -m pip install a"
    found(None, True)
    assert install_line("a") == "'/home/me/an env/bin/python' -m pip install a"


def test_an_environment_of_uv_has_no_pip(found):
    found("/usr/bin/pip", False)
    assert install_line("a==1") == "uv pip install --python '/home/me/an env/bin/python' a==1"


def test_an_environment_of_pipx_is_named_to_pipx(monkeypatch, tmp_path):
    """Whether pipx made it with pip or with uv, `runpip` installs into it."""
    (tmp_path / "accord").mkdir()
    (tmp_path / "accord/pipx_metadata.json").write_text("{}")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "accord"))
    assert install_line("a", options="--no-deps") == "pipx runpip accord install --no-deps a"
