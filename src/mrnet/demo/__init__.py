"""The demo: a simulated benchmark, and the whole story told on it."""

from pathlib import Path

from mrnet.types import QueryKind

DEFAULT_OUT = Path("mrnet-demo")
"""Where the demo puts everything."""

DEFAULT_RUNS: dict[QueryKind, Path] = {"typed": DEFAULT_OUT / "run", "spoken": DEFAULT_OUT / "run-spoken"}
"""Where ``mrnet find`` looks for a checkpoint, by the kind of query."""
