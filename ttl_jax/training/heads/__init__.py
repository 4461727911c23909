"""Heads on fixed features: solved, or many trained as one program."""
