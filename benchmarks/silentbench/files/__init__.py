"""SilentBench's part on files: faults of preference files, planted into draws of real sets, and
clean files that an audit must pass.
"""
