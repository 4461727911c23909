"""The folder of ArrayRecord shards that `prepare` writes."""
