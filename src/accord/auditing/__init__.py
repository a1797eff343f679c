"""What is wrong with a preference file, before any training: measured, explained, mended."""
