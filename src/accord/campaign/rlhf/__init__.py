"""Several runs as one command: rounds of sampling and training, and the three phases of RLHF. No
trainer of their own.
"""
