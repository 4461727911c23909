"""Training: state, step, loop, checkpoints, and the main job.

Nothing is imported here: the step must be importable without Grain, Orbax and ml_collections.
"""
