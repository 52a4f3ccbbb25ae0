"""What an embedded PostgreSQL keeps on the disk, and who owns it."""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from server.local.processes import Account, LocalServerError

OWN_FOLDER = Path("/proc/self/cwd")
HAS_PROC = OWN_FOLDER.exists()
FULL = os.strerror(errno.ENOSPC)
LOG_KEPT_BYTES = 10_000_000
PASSWORD_FOR_INITDB = "initdb-password"  # noqa: S105 - a file's name
_REASON = re.compile(r"(?:FATAL|PANIC|ERROR|error):\s+(.*)")


@dataclass(frozen=True, slots=True)
class PostgresFolder:
    """`DATA_DIR/postgres` with `cluster` (the data), `password`, `port`, `log` and `lock`."""

    home: Path

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data folder."""
        return self.home / "cluster"

    @property
    def draft(self) -> Path:
        """Where a cluster is made before it counts."""
        return self.home / "cluster.new"

    def make(self) -> None:
        """Make the folder; the account that runs PostgreSQL may pass through it."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            if os.geteuid() in {0, self.home.stat().st_uid}:
                self.home.chmod(0o711)
            self._open("lock").close()
        except OSError as error:
            raise LocalServerError(f"cannot use {self.home}: {error.strerror}") from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second start out; the lock ends with the process that holds it."""
        with self._open("lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LocalServerError(
                    f"another MallWatt is running with the data in {self.home.parent}"
                ) from error
            yield

    def _open(self, name: str) -> IO[bytes]:
        """Open a private file to append; what root makes belongs to the folder's owner."""
        file = os.fdopen(os.open(self.home / name, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        if os.geteuid() == 0:
            owner = self.home.stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        return file

    def read(self, name: str) -> str | None:
        """The remembered text, or None."""
        try:
            return (self.home / name).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def write(self, name: str, text: str) -> None:
        """Remember a text, readable by its owner alone."""
        with self._open(name) as file:
            file.truncate()
            file.write(text.encode())

    def open_log(self) -> IO[bytes]:
        """The log, at its end; one that has grown large is put aside once."""
        log = self.home / "log"
        if log.exists() and log.stat().st_size > LOG_KEPT_BYTES:
            log.replace(self.home / "log.1")
        file = self._open("log")
        flags = fcntl.fcntl(file, fcntl.F_GETFL)
        fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_APPEND)
        file.seek(0, os.SEEK_END)
        return file

    def reason(self, since: int) -> str:
        """Why PostgreSQL gave up: its last complaint in the log after byte `since`."""
        with (self.home / "log").open("rb") as file:
            file.seek(since)
            lines = file.read(LOG_KEPT_BYTES).decode(errors="replace").splitlines()
        if any(FULL in line for line in lines):
            return f"{FULL}: the disk of {self.home} is full"
        for line in reversed(lines):
            if match := _REASON.search(line):
                return match.group(1)
        return lines[-1] if lines else "no word of why"

    def data_path(self, folder: Path) -> str:
        """How a program whose working folder is `folder` names it.

        By root's choice of account it may not reach its own working folder by path (the data may be
        below /root), but on Linux it can always reach it through /proc.
        """
        if os.geteuid() == 0 and HAS_PROC:
            return str(OWN_FOLDER)
        return str(folder)

    def owner(self, otherwise: Account | None) -> Account | None:
        """Whom root runs PostgreSQL as: the owner of the data, whoever made them."""
        if otherwise is None or not self.cluster.exists():
            return otherwise
        found = self.cluster.stat()
        return Account(found.st_uid, found.st_gid) if found.st_uid else otherwise

    def check_version(self, major: str) -> bool:
        """Whether there are data; raises LocalServerError where another PostgreSQL made them."""
        try:
            found = (self.cluster / "PG_VERSION").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return False
        except PermissionError as error:
            raise LocalServerError(
                f"{self.cluster} belongs to another account: run as that account or as root"
            ) from error
        if found != major:
            raise LocalServerError(
                f"{self.cluster} holds data of PostgreSQL {found}, installed is {major}:"
                " dump them with the old version, restore them with the new"
            )
        return True

    def make_draft(self, password: str, account: Account | None) -> None:
        """An empty folder for initdb, and the password beside it, both `account`'s."""
        shutil.rmtree(self.draft, ignore_errors=True)
        self.draft.mkdir(mode=0o700)
        self.write(PASSWORD_FOR_INITDB, password)
        if account is not None:
            os.chown(self.draft, account.uid, account.gid)
            os.chown(self.home / PASSWORD_FOR_INITDB, account.uid, account.gid)

    def accept_draft(self) -> None:
        """The draft is whole: it is the data from now on."""
        self.draft.rename(self.cluster)

    def forget_draft(self) -> None:
        """Remove what is left of making one."""
        (self.home / PASSWORD_FOR_INITDB).unlink(missing_ok=True)
        shutil.rmtree(self.draft, ignore_errors=True)

    def orphan(self) -> int | None:
        """The process id of a server that still runs on these data.

        Call with the lock held. Process ids are used again (after a reboot, in containers always),
        and PostgreSQL refuses to start over a file that names a living process: such a file goes.
        """
        pid_file = self.cluster / "postmaster.pid"
        try:
            pid = int(pid_file.read_text(encoding="utf-8").splitlines()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None
        if not _is_alive(pid):
            return None  # PostgreSQL itself knows what to do then
        if _serves(pid, self.cluster):
            return pid
        pid_file.unlink()
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _serves(pid: int, cluster: Path) -> bool:
    """Whether the process is a PostgreSQL server on these data."""
    if HAS_PROC:
        try:
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
            return name == "postgres" and Path(f"/proc/{pid}/cwd").samefile(cluster)
        except OSError:
            return False
    done = subprocess.run(  # noqa: S603 - a fixed command and a number
        ["/bin/ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    return "postgres" in done.stdout and str(cluster) in done.stdout
