"""Splits of whole groups, and the checks that nothing leaks between them."""
