"""Commands of several runs."""
