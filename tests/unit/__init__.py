"""Rules that need no database and no request."""
