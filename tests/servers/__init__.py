"""Real database servers for the tests, private to the run, and a second connection to look in."""
