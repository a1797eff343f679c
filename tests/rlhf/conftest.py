"""The tests of several runs in one command use the small tokenizer of those of training."""

from training.conftest import tokenizer  # noqa: F401
