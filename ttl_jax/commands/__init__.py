"""One file a command: SUMMARY for the overview, HELP, and run(arguments). `ttl_jax.cli` calls them."""
