"""What the decorators do to functions, callers and frameworks."""
