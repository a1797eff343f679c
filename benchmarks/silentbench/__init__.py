"""SilentBench: faults that train without an error and give a wrong model, injected one at a time
into small real runs.
"""
