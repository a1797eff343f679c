"""For tests of training: the tokenizer is that of the two-layer model."""

import pytest


@pytest.fixture(scope="session")
def tokenizer(small_tokenizer):
    return small_tokenizer
