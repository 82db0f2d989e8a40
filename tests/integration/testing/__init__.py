"""The tools that the package has for the tests of applications."""
