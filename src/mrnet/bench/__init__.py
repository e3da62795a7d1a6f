"""Measurements of the fast paths against the reference paths, in one run, taking turns: `mrnet bench`."""
