"""An emulation of LanceDB's remote service, as far as a library asks it: its REST interface, answered by a folder.

What its client sends and reads is the client's own code; what the service says is after the client's expectations
(https://docs.lancedb.com/api-reference/rest). Of the real service it shows nothing more.
"""

import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
import uvicorn
from lancedb.index import IvfFlat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class Service:
    """The service.

    Args:
        folder: of its tables.
    """

    def __init__(self, folder: Path) -> None:
        self._tables = lancedb.connect(folder)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Its address."""
        routes = [
            Route("/v1/namespace/{id}/table/list", self._names),
            Route("/v1/table/{name}/index/{index}/stats/", self._index_stats, methods=["POST"]),
            Route("/v1/table/{name}/index/list/", self._indices, methods=["POST"]),
            Route("/v1/table/{name}/{what}/", self._ask, methods=["POST"]),
        ]
        server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=0, log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        server.should_exit = True
        thread.join()

    def _names(self, _: Request) -> Response:
        return JSONResponse({"tables": self._tables.list_tables().tables})

    async def _ask(self, request: Request) -> Response:
        name, what, body = request.path_params["name"], request.path_params["what"], await request.body()
        names = self._tables.list_tables().tables
        if what == "create":
            if name in names:
                return Response(f"table {name} already exists", 400)
            self._tables.create_table(name, _read(body))
            return JSONResponse({})
        if name not in names:
            return Response(f"table {name} is not here", 404)
        table = self._tables.open_table(name)
        if what == "insert":
            table.add(_read(body))
        elif what == "merge_insert":
            on = request.query_params["on"]
            table.merge_insert(on).when_matched_update_all().when_not_matched_insert_all().execute(_read(body))
        else:
            return getattr(self, f"_{what}")(table, json.loads(body or "{}"))  # type: ignore[no-any-return]
        return JSONResponse({"version": table.version})

    def _describe(self, table: Any, _: Any) -> Response:
        return JSONResponse(
            {"version": table.version, "schema": {"fields": [_field(one) for one in table.schema]}}
        )

    def _count_rows(self, table: Any, _: Any) -> Response:
        return JSONResponse(table.count_rows())

    def _delete(self, table: Any, asked: Any) -> Response:
        table.delete(asked["predicate"])
        return JSONResponse({"version": table.version, "num_deleted_rows": 0})

    def _query(self, table: Any, asked: Any) -> Response:
        if asked["vector"]:
            query = table.search(asked["vector"], vector_column_name=asked["vector_column"])
            query = query.distance_type(asked["distance_type"]).nprobes(asked["nprobes"])
            if asked.get("bypass_vector_index"):
                query = query.bypass_vector_index()
        else:
            query = table.search()
        if "filter" in asked:
            query = query.where(asked["filter"], prefilter=asked["prefilter"])
        if "columns" in asked:
            query = query.select(asked["columns"])
        found = query.limit(min(asked["k"], max(table.count_rows(), 1))).to_arrow()
        out = io.BytesIO()
        with pa.ipc.new_file(out, found.schema) as writer:
            writer.write_table(found)
        return Response(out.getvalue(), media_type="application/vnd.apache.arrow.file")

    def _create_index(self, table: Any, asked: Any) -> Response:
        assert asked["index_type"] == "IVF_FLAT"
        table.create_index(
            asked["column"],
            config=IvfFlat(distance_type=asked["metric_type"], num_partitions=asked["num_partitions"]),
        )
        return JSONResponse({})

    def _stats(self, table: Any, _: Any) -> Response:
        return JSONResponse(table.stats())

    def _indices(self, request: Request) -> Response:
        found = self._tables.open_table(request.path_params["name"]).list_indices()
        return JSONResponse({"indexes": [{"index_name": one.name, "columns": one.columns} for one in found]})

    def _index_stats(self, request: Request) -> Response:
        stats = self._tables.open_table(request.path_params["name"]).index_stats(request.path_params["index"])
        return JSONResponse(
            {
                "num_indexed_rows": stats.num_indexed_rows,
                "num_unindexed_rows": stats.num_unindexed_rows,
                "index_type": stats.index_type,
            }
        )


def _read(body: bytes) -> pa.Table:
    return pa.ipc.open_stream(body).read_all()


def _field(field: pa.Field) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": str(field.type)}
    if pa.types.is_fixed_size_list(field.type):
        kind = {
            "type": "fixed_size_list",
            "fields": [_field(field.type.value_field)],
            "length": field.type.list_size,
        }
    return {"name": field.name, "type": kind, "nullable": field.nullable}
