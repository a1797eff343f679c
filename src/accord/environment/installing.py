"""The command that installs packages where accord runs. A bare `pip` serves an activated
environment alone; pipx and uv keep a command in one that nobody activates.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from pathlib import Path

from accord.errors import UsageError


def install_line(*packages: str, options: str = "") -> str:
    """Return the command that installs packages into the environment of this process."""
    words = [_installer(), *options.split(), *map(shlex.quote, packages)]
    return " ".join(words)


def require_package(name: str, needed_by: str) -> None:
    """Check that a package can be imported, without importing it.

    Raises:
      UsageError: it is not installed; with the command that installs it.
    """
    if importlib.util.find_spec(name) is None:
        package = name.replace("_", "-")
        raise UsageError(
            f"{needed_by} needs the package {package}, which is not installed.\n"
            f"Install it with: {install_line(package)}"
        )


def _installer() -> str:
    if (Path(sys.prefix) / "pipx_metadata.json").is_file():
        return f"pipx runpip {Path(sys.prefix).name} install"
    pip, python = shutil.which("pip"), shlex.quote(sys.executable)
    if pip is not None and Path(pip).parent == Path(sys.executable).parent:
        return "pip install"
    if importlib.util.find_spec("pip") is not None:
        return f"{python} -m pip install"
    return f"uv pip install --python {python}"  # environments of uv have no pip
