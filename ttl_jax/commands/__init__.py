"""One file a command: SUMMARY for the overview, HELP, run(arguments), and `fields` where it has a config.

`ttl_jax.cli` finds them; the other files here serve several commands.
"""
