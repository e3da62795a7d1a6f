"""The demo: a simulated benchmark, and the whole story told on it."""

from pathlib import Path

from mrnet.types import QueryKind

DEFAULT_OUT = Path("mrnet-demo")
"""Where the demo puts everything."""

DEFAULT_RUNS: dict[QueryKind, Path] = {"text": DEFAULT_OUT / "run", "speech": DEFAULT_OUT / "run-speech"}
"""Where the demo trains its models, by the kind of query."""
