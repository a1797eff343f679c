"""Commands of several runs: rounds of sampling and training, and the three phases of RLHF. They
have no trainer of their own.
"""
