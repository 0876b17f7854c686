"""A model while it runs: will it fit, loading it, how fast it is, what to do when memory runs out."""
