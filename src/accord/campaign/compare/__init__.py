"""Methods and settings compared honestly: same rows, same order, same updates, one measure for all,
intervals over prompts and seeds.
"""
