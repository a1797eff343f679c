"""The training loop, and the functions that it calls."""
