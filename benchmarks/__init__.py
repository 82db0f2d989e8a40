"""What the package costs beside code written by hand."""
