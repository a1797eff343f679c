"""The small vocabulary of the tests of training; runs take no second with it."""

from training.conftest import tiny_folder, tokenizer  # noqa: F401
