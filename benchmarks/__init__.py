"""Measurements of the fast paths against the reference paths; not part of the installed package."""
