"""The small vocabulary of the tests of training; runs take no second with it."""

import pytest
from conftest import pair_rows
from training.conftest import tokenizer  # noqa: F401


@pytest.fixture
def rows():
    """24 good pairs in memory."""
    return pair_rows(24)
