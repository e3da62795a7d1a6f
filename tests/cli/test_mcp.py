"""``mrnet mcp``; what it serves is tested in test_mcp_server."""

from tests.cli.conftest import Command


def test_a_root_that_is_none(command: Command) -> None:
    line = command.refuses("mcp", "--root", "gone", "--out", "clips")
    assert line == "mrnet: error: --root gone: is no folder; name one that holds videos"
