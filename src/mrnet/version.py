"""Which version of the package this is, and from which commit."""

__version__ = "0.2.0"


def git_commit() -> str | None:
    """The commit this package runs from or was built from; ``None`` where that is not known."""
    # Slow to import for a line that only reports hold.
    import subprocess
    from importlib import resources
    from pathlib import Path

    noted = resources.files("mrnet") / "commit.txt"
    if noted.is_file():
        return noted.read_text(encoding="utf-8").strip()
    here = Path(__file__).resolve()
    tracked = ["git", "-C", str(here.parent), "ls-files", "--error-unmatch", here.name]
    head = ["git", "-C", str(here.parent), "rev-parse", "HEAD"]
    try:
        # Some other repository may lie around an installed package.
        if subprocess.run(tracked, capture_output=True, check=False).returncode:
            return None
        found = subprocess.run(head, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None
