"""Annotations, data sets and batches."""
