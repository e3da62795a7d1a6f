"""The demo: a simulated benchmark, and the whole story told on it."""

from pathlib import Path

DEFAULT_OUT = Path("mrnet-demo")
"""Where the demo puts everything, and where ``mrnet find`` looks for a checkpoint."""
