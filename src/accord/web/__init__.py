"""Local pages: nothing listens on anything but this machine's own loopback address."""
