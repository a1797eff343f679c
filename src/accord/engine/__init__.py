"""One update: a batch, its losses, their gradient, the optimizer, the weights."""
