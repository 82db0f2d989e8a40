"""The claims that the package makes, and the proof of each."""
