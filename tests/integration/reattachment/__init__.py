"""Reattachment, with databases."""
