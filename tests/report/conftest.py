"""The small vocabulary of the tests of training; runs take no second with it."""

from training.conftest import tokenizer  # noqa: F401
