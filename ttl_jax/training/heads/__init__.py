"""Heads on fixed features: many of them trained as one program."""
