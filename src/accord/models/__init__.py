"""Models: loading, adapters, references, fingerprints, saving. Nothing here knows about data files
or training.
"""
