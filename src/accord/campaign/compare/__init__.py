"""A fair comparison of methods and settings: same rows, same order, same updates, one measure for
all, intervals over prompts and seeds.
"""
