"""Finished models, measured: `accord generate`, `accord eval`, and the way to other harnesses."""
