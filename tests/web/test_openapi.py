"""Hostile requests, made from the API's own description: each is answered as that says, and none breaks the server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from httpx import Client
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mrnet.answer import AnswerJson
from mrnet.library.library import Library
from mrnet.predictor import Predictor
from mrnet.web.app import make_app
from serving import serving
from tests.web.conftest import ask, finished, upload

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@schemathesis.serializer("audio/wav", "video/*")
def as_they_are(_: Any, content: Any) -> Any:
    """Bodies that are files."""
    return content


class Served:
    """A server that holds a video and a question about it, which come back whenever they are removed, and a library."""

    def __init__(self, client: Client, film: Path) -> None:
        self.client, self.film = client, film
        self.known: dict[str, str] = {}

    def restore(self) -> None:
        """What a case may use."""
        if self.known and self.client.get(f"/api/jobs/{self.known['job_id']}").status_code == 200:
            return
        video = upload(self.client, self.film)
        job = finished(self.client, ask(self.client, video, "a red square"))
        self.known = {"video_id": video["id"], "job_id": job["id"]}
        [self.shelved, _] = (each["id"] for each in self.client.get("/api/library/videos").json())

    def named(self, path: str) -> dict[str, str]:
        """What is there, by the names that a path has for it."""
        return self.known | ({"video_id": self.shelved} if path.startswith("/api/library/") else {})


@pytest.fixture
def served(predictor: Predictor, library: Library, film: Path, tmp_path: Path) -> Iterator[Served]:
    with serving(make_app(predictor, tmp_path / "data", library=library)) as url, Client(base_url=url) as client:
        yield Served(client, film)


def test_every_request_is_answered_as_described(served: Served) -> None:
    described = schemathesis.openapi.from_dict(served.client.get("/openapi.json").json())
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 20
    found = {operation.label: answers(served, operation) for operation in operations}
    for operation in operations:
        assert len(found[operation.label]) >= 5 or not operation.path_parameters, operation.label
    of_library = {label: statuses for label, statuses in found.items() if "/api/library/" in label}
    assert len(of_library) == 4
    assert all(200 in statuses for statuses in of_library.values()), of_library


def answers(served: Served, operation: Any) -> list[int]:
    """The statuses of what an operation answers to many requests, each checked."""
    statuses = []

    @settings(
        max_examples=10, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy())
    def sent(case: Any) -> None:
        served.restore()
        if len(statuses) % 2:  # the others name nothing that is there
            named = served.named(case.path)
            case.path_parameters.update({name: named[name] for name in case.path_parameters if name in named})
            if isinstance(case.body, dict) and "video" in case.body:
                case.body["video"] = named["video_id"]
            if isinstance(case.body, dict) and "folder" in case.body:
                case.body["folder"] = "/"
        response = case.call(base_url=str(served.client.base_url))
        statuses.append(response.status_code)
        case.validate_response(response, checks=CHECKS)

    sent()
    return statuses


def test_answers_are_described_by_the_one_schema(served: Served) -> None:
    schemas = served.client.get("/openapi.json").json()["components"]["schemas"]
    assert list(schemas["AnswerJson"]["properties"]) == list(AnswerJson.__annotations__)
    served.restore()
    answer = served.client.get(f"/api/jobs/{served.known['job_id']}").json()["answer"]
    assert list(answer) == list(AnswerJson.__annotations__)
