"""The transaction rules, seen from the user's side: real decorators, a real database."""
