"""Rows of features on disk: read, written, reduced."""
