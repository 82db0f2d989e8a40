"""Reattachment, without a database."""
