"""For tests of what is online: the two-layer model of the tests of training, and prompts."""

import pytest
from training.conftest import tokenizer  # noqa: F401


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """A file of eight prompts."""
    file = tmp_path_factory.mktemp("prompts") / "train.txt"
    file.write_text("".join(f"say something about the cat number {n}\n" for n in range(8)))
    return file
