"""Rules on real requests and real databases."""
