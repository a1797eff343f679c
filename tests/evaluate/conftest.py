"""The small vocabulary of the tests of training, for the judges among these tests."""

from training.conftest import tokenizer  # noqa: F401
