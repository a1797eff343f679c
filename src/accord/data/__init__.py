"""Preference data: files, formats, the account of every row, and the tokens a model is given."""
