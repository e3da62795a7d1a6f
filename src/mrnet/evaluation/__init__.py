"""Metrics, prediction files and the baselines that every result is read against."""
