"""The command `gemmule`."""
