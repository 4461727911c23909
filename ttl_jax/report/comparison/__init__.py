"""A comparison in words, decisions and figures."""
