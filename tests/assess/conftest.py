"""The tests of finished models use the small tokenizer of those of training."""

from training.conftest import tokenizer  # noqa: F401
