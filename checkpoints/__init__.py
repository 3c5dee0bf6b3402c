"""Small trained networks that ship with nd_jax, one folder each: `nd_jax.load("checkpoints/<name>")`."""
