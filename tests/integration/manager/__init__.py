"""The manager, from the side of those who use it: real apps, real databases."""
