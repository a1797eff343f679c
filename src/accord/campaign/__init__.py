"""Several runs as one command."""
