"""A short load: every answer of the server is right or refused, and nothing is left."""

import json

import pytest

import load_server


def test_few_clients_for_a_moment(capfd: pytest.CaptureFixture[str]) -> None:
    status = load_server.main(["--clients", "4", "--seconds", "3"])
    found = json.loads(capfd.readouterr().out)
    assert status == 0
    assert found["left"] == []
    assert found["counts"]["answer: right"] >= 1
    assert [count for count in found["counts"] if count.endswith("wrong")] == []
    assert max(found["memory_mb"]) < 2000
