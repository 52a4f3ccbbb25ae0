"""Fills `.venv` from the lock files: what `make` runs first, with any Python of the machine.

Standard library only. A stamp in `.venv` makes every later start instant. Whatever goes wrong is
one line.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Command = list[str | Path]

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
TOOLS = ENVIRONMENT / "installer"  # uv lives apart: it may not remove itself
UV = TOOLS / "bin" / "uv"
STAMP = ENVIRONMENT / "installed.json"
NEEDED_BYTES = {"run": 500_000_000, "development": 800_000_000}
USED = {
    "run": ("server.app",),
    "development": ("server.app", "pytest", "hypothesis", "playwright.async_api"),
}
TELL_EVERY_S = 5
TAIL_LINES = 60
CERTIFICATE_FILES = (  # Debian, Fedora, Alpine and macOS, openSUSE
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
)
NOISE = re.compile(
    r"^ [+-] |^warning: Failed to hardlink|notice\]|^WARNING: (Location|Running pip|Retrying)"
)
COMPILER = r"[\w./-]*(?:cc|gcc|clang|g\+\+)"
REASONS = {  # the first that is found in the output names what is wrong
    r"No space left on device|os error 28|Disk quota exceeded": (
        "the disk is full: free some space and run the same command again"
    ),
    r"certificate verify failed|CERTIFICATE_VERIFY_FAILED|peer certificate|UnknownIssuer": (
        "the package index shows a certificate that this machine does not trust:"
        " set SSL_CERT_FILE to the CA file of your network"
    ),
    r"(?i)dns error|name resolution|network is unreachable|connection refused|tcp connect"
    r"|error sending request|connection reset|timed out|NewConnectionError|nodename nor servname"
    r"|ProxyError|proxy|tunnel": (
        "no network: packages cannot be downloaded (behind a proxy set HTTPS_PROXY)"
    ),
    r"(?i)hash mismatch|do not match the hashes": (
        "a downloaded package is not the one in the lock file: it was not installed"
    ),
    rf"command '?{COMPILER}'? failed: No such file|No such file or directory: '{COMPILER}'"
    rf"|unable to execute '{COMPILER}'|no C compiler|no acceptable C compiler": (
        "a package must be compiled on this machine and there is no C compiler: install one"
        " (Debian, Ubuntu: apt install build-essential python3-dev; macOS: xcode-select --install)"
    ),
    r"(?i)Permission denied|os error 13|Read-only file system": (
        "no permission to write .venv or the package cache: were they made by another account?"
    ),
}


class SetupError(Exception):
    """The machine cannot be made ready; the text is one line."""


def tell(line: str) -> None:
    """Print a line now."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def reason(output: str) -> str:
    """What is wrong, in a line, from what a tool printed."""
    for pattern, text in REASONS.items():
        if re.search(pattern, output):
            return text
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    complaints = [line for line in lines if re.match(r"(?i)error|fatal|×", line)]
    return (complaints or lines or ["it said nothing"])[-1]


def run(what: str, command: Sequence[str | Path], env: Mapping[str, str]) -> None:
    """Run a step, showing its words and, where it is silent, the time; raises SetupError."""
    tell(f"MallWatt: {what}")
    begun = time.monotonic()
    try:
        process = subprocess.Popen(  # noqa: S603 - our own commands
            command,
            cwd=ROOT,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise SetupError(f"{what}: {error.strerror or error}") from error
    tail: list[str] = []
    with process:
        try:
            for line in _lines(process, begun):
                tail = [*tail[-TAIL_LINES:], line]
        finally:
            if process.poll() is None:
                process.terminate()
    if process.returncode != 0:
        raise SetupError(f"{what}: {reason(chr(10).join(tail))}")


def _lines(process: subprocess.Popen[str], begun: float) -> Iterator[str]:
    """The lines of a process, shown as they come; in silence a sign of life."""
    lines: queue.Queue[str | None] = queue.Queue(maxsize=1000)

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=TELL_EVERY_S)
        except queue.Empty:
            tell(f"    … still at it after {time.monotonic() - begun:.0f} s")
            continue
        if line is None:
            return
        if line and not NOISE.search(line):
            tell(f"    {line}")
        yield line


def digest(wanted: str) -> str:
    """What the installed set depends on: the locks, the project file, this Python, this folder."""
    names = (f"requirements/{wanted}.txt", "requirements/uv.txt", "pyproject.toml")
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in names]
    parts = [str(ROOT), sys.version, wanted, *texts]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def installed() -> tuple[str, str] | None:
    """The set and digest of the last whole installation."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        return str(stamp["set"]), str(stamp["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def pip_settings(python: Path) -> dict[str, str]:
    """What the person has told pip, by file or environment: index-url, cert, proxy."""
    done = subprocess.run(  # noqa: S603 - the environment's own pip
        [python, "-m", "pip", "--disable-pip-version-check", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"^[\w:]+\.([\w-]+)='([^']*)'$", done.stdout, re.MULTILINE)
    return {name.replace("_", "-"): value for name, value in found}


def download_settings(
    environ: Mapping[str, str], pip: Mapping[str, str], certificates: str | None
) -> dict[str, str]:
    """The environment in which pip and uv find the same index, proxy and certificates.

    uv does not read pip's files. An explicit setting wins over pip's, pip's over the system's.
    """
    env = {**environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "UV_NO_PYTHON_DOWNLOADS": "1"}
    env.pop("VIRTUAL_ENV", None)
    env.pop("PYTHONPATH", None)
    authority = environ.get("SSL_CERT_FILE") or pip.get("cert") or certificates
    if authority:
        env.setdefault("PIP_CERT", pip.get("cert") or authority)
        env.setdefault("SSL_CERT_FILE", authority)
    env.setdefault("UV_SYSTEM_CERTS", "1")
    if "index-url" in pip and "UV_INDEX_URL" not in environ:
        env.setdefault("UV_DEFAULT_INDEX", pip["index-url"])
    if "proxy" in pip:
        env.setdefault("HTTPS_PROXY", pip["proxy"])
    return env


def system_certificates() -> str | None:
    """The machine's own list of authorities: it may know one that no package knows."""
    return next((name for name in CERTIFICATE_FILES if Path(name).is_file()), None)


def with_cache(env: Mapping[str, str]) -> dict[str, str]:
    """Keep uv's cache in the home folder; beside the project where there is no such folder."""
    home = Path(env.get("HOME") or "/nonexistent")
    if {"UV_CACHE_DIR", "XDG_CACHE_HOME"} & env.keys() or os.access(home, os.W_OK):
        return dict(env)
    return {**env, "UV_CACHE_DIR": str(ENVIRONMENT / "cache"), "PIP_NO_CACHE_DIR": "1"}


def check_disk(wanted: str) -> None:
    """Raise SetupError early where the set cannot fit."""
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_BYTES[wanted]:
        need, have = NEEDED_BYTES[wanted] // 1_000_000, free // 1_000_000
        raise SetupError(f"the disk is full: {need} MB are needed in {ROOT}, {have} MB are free")


def works(python: Path) -> bool:
    """Whether the environment's Python runs and has pip (its base may have been removed)."""
    command: Command = [
        python,
        "-c",
        "import pip, sys; sys.exit(sys.version_info < (3, 11))",
    ]
    try:
        done = subprocess.run(  # noqa: S603 - as above
            command, capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


def install(wanted: str) -> None:
    """Make `.venv` hold the wanted set exactly, and this project."""
    check_disk(wanted)
    version = ".".join(map(str, sys.version_info[:3]))
    if not works(PYTHON):
        command: Command = [sys.executable, "-m", "venv", "--clear", ENVIRONMENT]
        run(f"making .venv with Python {version}", command, os.environ)
    STAMP.unlink(missing_ok=True)
    certificates = system_certificates()
    env = with_cache(download_settings(os.environ, pip_settings(PYTHON), certificates))
    shutil.rmtree(TOOLS, ignore_errors=True)
    pip: Command = [PYTHON, "-m", "pip", "install", "--quiet", "--no-input", "--no-user"]
    pip += ["--require-hashes", "--no-deps", "--only-binary=:all:", f"--target={TOOLS}"]
    run("fetching uv, the installer", [*pip, "-r", "requirements/uv.txt"], env)
    lock = f"requirements/{wanted}.txt"
    count = (ROOT / lock).read_text(encoding="utf-8").count("==")
    sync: Command = [UV, "pip", "sync", "--python", PYTHON, "--require-hashes", lock]
    run(f"installing {count} packages ({lock})", sync, env)
    project: Command = [UV, "pip", "install", "--python", PYTHON, "--no-deps", "--editable", "."]
    run("installing MallWatt itself", [*project, "--no-build-isolation"], env)
    # Some machines forbid Python to keep what it compiled: every process would then start 2 s later
    keeping = {name: value for name, value in env.items() if name != "PYTHONDONTWRITEBYTECODE"}
    used: Command = [PYTHON, "-c", f"import {', '.join(USED[wanted])}"]
    run("compiling what is used", used, keeping)
    STAMP.write_text(json.dumps({"set": wanted, "digest": digest(wanted)}), encoding="utf-8")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold a lock: two `make`s at once would fill one folder twice."""
    with (ROOT / "pyproject.toml").open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("MallWatt: waiting for another installation into the same folder")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure(wanted: str) -> None:
    """Install the set unless it is there; development serves for running too."""
    with alone():
        found = installed()
        if wanted == "run" and found is not None and found[0] == "development":
            wanted = "development"
        if found == (wanted, digest(wanted)) and PYTHON.exists():
            return
        begun = time.monotonic()
        install(wanted)
        tell(f"MallWatt: ready after {time.monotonic() - begun:.0f} s")


def main(arguments: Sequence[str]) -> int:
    """Install one of the sets; the exit code for make."""
    try:
        ensure(arguments[0])
    except SetupError as error:
        sys.stderr.write(f"MallWatt: cannot go on: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"MallWatt: cannot go on: {reason(str(error))}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nMallWatt: stopped; the same command goes on from here\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
