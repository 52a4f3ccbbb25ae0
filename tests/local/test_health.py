"""The containers' health check: exit code 0, or 1 and a line."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from server.local.health import main
from server.local.ports import free_port


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Settings of the test's own."""
    return {"MALLWATT_DATA_DIR": str(tmp_path), "MALLWATT_HTTP": f"127.0.0.1:{free_port()}"}


@pytest.fixture(params=[200, 503])
def web(request: pytest.FixtureRequest, environ: dict[str, str]) -> Iterator[int]:
    """A web role that answers so."""
    status: int = request.param

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    port = int(environ["MALLWATT_HTTP"].rpartition(":")[2])
    with HTTPServer(("127.0.0.1", port), Ready) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield status
        server.shutdown()
        thread.join()


def test_a_web_role_is_asked(
    web: int, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["web"], environ) == (0 if web == 200 else 1)
    said = capsys.readouterr().err
    assert said == "" if web == 200 else said.endswith("/health/ready answers 503\n")


async def test_a_role_without_a_door_needs_its_database(
    postgres_url: str, environ: dict[str, str]
) -> None:
    given = {**environ, "MALLWATT_DATABASE_URL": postgres_url}
    assert await asyncio.to_thread(main, ["role"], given) == 0


@pytest.mark.parametrize(
    ("arguments", "setting", "said"),
    [
        (["web"], {}, "/health/ready does not answer: "),
        (["role"], {}, "MALLWATT_DATABASE_URL is not set"),
        (
            ["role"],
            {"MALLWATT_DATABASE_URL": "postgres://u:hunter2@127.0.0.1:1/d"},
            "the database does not answer: ",
        ),
        (["web"], {"MALLWATT_ENV": "toy"}, "MALLWATT_ENV is malformed"),
        ([], {}, "usage: "),
        (["door"], {}, "usage: "),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str],
    setting: dict[str, str],
    said: str,
    environ: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(arguments, environ | setting) == 1
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert "hunter2" not in line
