"""SilentBench's lifecycle part: faults of models, adapters, runs, measurements and conclusions,
each drawn from a seed and tried at each step of a model's life where it can happen.
"""
