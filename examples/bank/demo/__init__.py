"""The demonstration that ``python -m examples.bank`` runs; the bank itself needs nothing of it."""
