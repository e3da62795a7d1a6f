"""A simulated benchmark, rendered on the spot, to try the whole pipeline with no download."""
