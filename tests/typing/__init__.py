"""What type checkers say of decorated callables."""
