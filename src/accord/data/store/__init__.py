"""The token store: rows of a large file, encoded once, on disk."""
