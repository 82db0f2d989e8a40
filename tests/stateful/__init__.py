"""Properties that hold for every program, on every backend, in both colours."""
