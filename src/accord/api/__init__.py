"""The functions that Python programs call, by the words of the command line.

`accord.train` and its like are names of the package (`accord/__init__.py`), which imports them when
they are first used.
"""
