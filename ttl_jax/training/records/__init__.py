"""The files that a run leaves: checkpoints, log, config, provenance."""
