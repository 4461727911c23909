"""Hooks: what happens after every call of the step, one file each.

The loop calls them in one order, which `training/loop.py` states and explains.
"""
