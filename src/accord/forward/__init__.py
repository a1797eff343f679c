"""Log-probs of completions: the readable oracle, and fast paths that must equal it, forward and
backward.
"""
