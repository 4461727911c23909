"""Features of frozen units, computed once."""
