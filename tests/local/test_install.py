"""The set-up behind `make`: what it asks of the network, and its one line when it cannot go on."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from server.local import browser, install
from server.local.install import SetupError, download_settings, reason

ROOT = install.ROOT


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "error: failed to write\n  Caused by: No space left on device (os error 28)",
            "disk is full",
        ),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("  Caused by: invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
        ("ssl.SSLCertVerificationError: certificate verify failed", "SSL_CERT_FILE"),
        ("  Caused by: dns error: failed to lookup address information", "no network"),
        ("NewConnectionError: Failed to establish a new connection: [Errno 101]", "no network"),
        ("  Caused by: tcp connect error: Connection refused (os error 111)", "no network"),
        ("  x Hash mismatch for `aiocron==2.1`", "not the one in the lock file"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "lock file"),
        ("error: command 'gcc' failed: No such file or directory", "no C compiler"),
        ("FileNotFoundError: No such file or directory: 'x86_64-linux-gnu-gcc'", "no C compiler"),
        ("unable to execute '/usr/bin/cc': No such file or directory", "no C compiler"),
        ("error: failed to create: Permission denied (os error 13)", "another account"),
        ("working\nerror: something new\nhint: none", "error: something new"),
        ("only words", "only words"),
        ("", "it said nothing"),
    ],
)
def test_one_line_says_what_is_wrong(output: str, said: str) -> None:
    assert said in reason(output)
    assert "\n" not in reason(output)


@pytest.mark.parametrize(
    ("environ", "pip", "certificates", "name", "value"),
    [
        ({}, {}, None, "UV_SYSTEM_CERTS", "1"),
        ({}, {}, None, "PIP_CERT", None),
        ({}, {}, "/ca", "PIP_CERT", "/ca"),
        ({}, {}, "/ca", "SSL_CERT_FILE", "/ca"),
        ({"SSL_CERT_FILE": "/mine"}, {}, "/ca", "PIP_CERT", "/mine"),
        ({"PIP_CERT": "/p"}, {"cert": "/p"}, "/ca", "PIP_CERT", "/p"),
        ({}, {"cert": "/p"}, "/ca", "SSL_CERT_FILE", "/p"),
        ({}, {"index-url": "mirror"}, None, "UV_DEFAULT_INDEX", "mirror"),
        ({"UV_DEFAULT_INDEX": "own"}, {"index-url": "mirror"}, None, "UV_DEFAULT_INDEX", "own"),
        ({"UV_INDEX_URL": "own"}, {"index-url": "mirror"}, None, "UV_DEFAULT_INDEX", None),
        ({}, {"proxy": "there"}, None, "HTTPS_PROXY", "there"),
        ({"HTTPS_PROXY": "own"}, {"proxy": "there"}, None, "HTTPS_PROXY", "own"),
        ({"VIRTUAL_ENV": "/other"}, {}, None, "VIRTUAL_ENV", None),
        ({"PYTHONPATH": "/other"}, {}, None, "PYTHONPATH", None),
    ],
)
def test_uv_finds_what_pip_was_told(
    environ: dict[str, str],
    pip: dict[str, str],
    certificates: str | None,
    name: str,
    value: str | None,
) -> None:
    assert download_settings(environ, pip, certificates).get(name) == value


@pytest.mark.parametrize(
    ("env", "beside_the_project"),
    [
        ({"HOME": "/"}, not os.access("/", os.W_OK)),
        ({"HOME": "/no/such/home"}, True),
        ({}, True),
        ({"UV_CACHE_DIR": "/chosen"}, False),
        ({"XDG_CACHE_HOME": "/chosen"}, False),
    ],
)
def test_the_cache_is_in_the_home_where_there_is_one(
    env: dict[str, str], beside_the_project: bool
) -> None:
    chosen = install.with_cache(env).get("UV_CACHE_DIR")
    assert (chosen == str(install.ENVIRONMENT / "cache")) is beside_the_project


class TestStamp:
    """What is installed already is not installed again."""

    @pytest.fixture
    def asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The sets that were installed, without installing them."""
        (tmp_path / "python").touch()
        monkeypatch.setattr(install, "PYTHON", tmp_path / "python")
        monkeypatch.setattr(install, "STAMP", tmp_path / "stamp")
        asked: list[str] = []

        def pretend(wanted: str) -> None:
            asked.append(wanted)
            stamp = {"set": wanted, "digest": install.digest(wanted)}
            install.STAMP.write_text(json.dumps(stamp), encoding="utf-8")

        monkeypatch.setattr(install, "install", pretend)
        return asked

    @pytest.mark.parametrize(
        ("wanted", "installed"),
        [
            (["run", "run"], ["run"]),
            (["run", "development", "run"], ["run", "development"]),
            (["development", "run", "development"], ["development"]),
        ],
    )
    def test_once(self, asked: list[str], wanted: list[str], installed: list[str]) -> None:
        for one in wanted:
            install.ensure(one)
        assert asked == installed

    @pytest.mark.parametrize("damage", ["", "{", "[]", '{"set": "run"}', '{"set": 1, "digest": 2}'])
    def test_a_damaged_stamp_counts_for_nothing(self, asked: list[str], damage: str) -> None:
        install.STAMP.write_text(damage, encoding="utf-8")
        install.ensure("run")
        assert asked == ["run"]

    def test_a_changed_lock_file_installs_again(
        self, asked: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install.ensure("development")
        monkeypatch.setattr(install, "digest", lambda wanted: f"changed {wanted}")
        install.ensure("run")
        assert asked == ["development", "development"]

    def test_a_removed_environment_is_made_again(self, asked: list[str]) -> None:
        install.ensure("run")
        install.PYTHON.unlink()
        install.ensure("run")
        assert asked == ["run", "run"]


class TestOneLine:
    """Whatever goes wrong ends with one line and exit code 1."""

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (SetupError("no luck"), "MallWatt: cannot go on: no luck\n"),
            (
                OSError(28, "No space left on device"),
                (
                    "MallWatt: cannot go on: the disk is full:"
                    " free some space and run the same command again\n"
                ),
            ),
        ],
    )
    def test_of_an_error(
        self,
        error: Exception,
        said: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail(_wanted: str) -> None:
            raise error

        monkeypatch.setattr(install, "ensure", fail)
        assert install.main(["run"]) == 1
        assert capsys.readouterr().err == said

    def test_of_a_full_disk_before_anything_is_fetched(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = namedtuple("usage", ["free"])  # noqa: PYI024 - the shape of shutil's own
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(free=1_000_000))
        with pytest.raises(SetupError, match="the disk is full: 500 MB are needed"):
            install.check_disk("run")

    def test_of_a_step_that_fails(self, capsys: pytest.CaptureFixture[str]) -> None:
        script = "print('begun'); print('error: no such thing'); raise SystemExit(2)"
        with pytest.raises(SetupError, match=r"^doing it: error: no such thing$"):
            install.run("doing it", [sys.executable, "-c", script], os.environ)
        assert capsys.readouterr().out.splitlines()[:2] == ["MallWatt: doing it", "    begun"]

    def test_of_a_program_that_is_not_there(self) -> None:
        with pytest.raises(SetupError, match=r"^doing it: No such file or directory$"):
            install.run("doing it", ["/no/such"], os.environ)


def test_silence_is_filled_with_a_sign_of_life(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "TELL_EVERY_S", 0.1)
    install.run("waiting", [sys.executable, "-c", "import time; time.sleep(0.5)"], os.environ)
    assert "still at it after" in capsys.readouterr().out


class TestBrowser:
    """A browser and Chinese fonts, or one line."""

    def refusal(self, capsys: pytest.CaptureFixture[str]) -> str:
        assert browser.main() == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    def test_nothing_is_done_where_both_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(browser, "missing", list)
        assert browser.main() == 0

    @pytest.mark.parametrize(
        ("missing", "said"),
        [
            (["browser"], "the tests need Chromium: install it"),
            (["fonts"], "the tests need Chinese fonts (Noto CJK): install it"),
            (["browser", "fonts"], "Chromium and Chinese fonts (Noto CJK)"),
        ],
    )
    def test_where_nothing_may_be_installed(
        self,
        missing: list[str],
        said: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(browser, "missing", lambda: missing)
        monkeypatch.setattr(browser, "apt_prefix", lambda: None)
        assert said in self.refusal(capsys)

    def test_where_apt_cannot(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(browser, "missing", lambda: ["browser"])
        monkeypatch.setattr(browser, "apt_prefix", lambda: ["/bin/false"])
        assert "it could not be installed" in self.refusal(capsys)

    def test_where_apt_can(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = [["browser", "fonts"], list[str]()]
        monkeypatch.setattr(browser, "missing", lambda: wanted.pop(0))
        monkeypatch.setattr(browser, "apt_prefix", lambda: ["/bin/true"])
        assert browser.main() == 0

    @pytest.mark.parametrize(
        ("system", "names", "last_words"),
        [
            (
                "debian",
                ["browser", "fonts"],
                [["update"], ["chromium-headless-shell", "fonts-noto-cjk"]],
            ),
            ("debian", ["fonts"], [["update"], ["fonts-noto-cjk"]]),
            ("ubuntu", ["fonts"], [["update"], ["fonts-noto-cjk"]]),
            ("ubuntu", ["browser"], [["chromium"]]),
            ("ubuntu", ["browser", "fonts"], [["update"], ["fonts-noto-cjk"], ["chromium"]]),
        ],
    )
    def test_what_is_installed_how(
        self, system: str, names: list[str], last_words: list[list[str]]
    ) -> None:
        commands = browser.steps(names, ["apt-get"], system)
        assert [command[-len(w) :] for command, w in zip(commands, last_words, strict=True)] == (
            last_words
        )
        fetched = [command for command in commands if "playwright" in command]
        assert bool(fetched) is (system == "ubuntu" and "browser" in names)

    def test_one_that_playwright_fetched_serves_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetched = tmp_path / "chromium-1200" / "chrome-linux" / "chrome"
        fetched.parent.mkdir(parents=True)
        fetched.write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
        fetched.chmod(0o755)
        monkeypatch.delenv("MALLWATT_BROWSER", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
        assert browser.find_browser() == fetched

    def test_a_package_that_only_points_elsewhere_is_no_browser(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stub = tmp_path / "chromium"
        stub.write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
        stub.chmod(0o755)
        monkeypatch.delenv("MALLWATT_BROWSER", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
        assert browser.find_browser() is None
        stub.write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
        assert browser.find_browser() == stub


class TestMake:
    """The targets that people rely on."""

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        make = shutil.which("make")
        assert make is not None
        return subprocess.run(  # noqa: S603 - our own Makefile
            [make, "--no-print-directory", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_help_names_every_target(self) -> None:
        text = (ROOT / "Makefile").read_text(encoding="utf-8")
        phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
        assert phony is not None
        named = re.findall(r"^  make (\w+) +\S", self.make("help").stdout, re.MULTILINE)
        assert sorted(named) == sorted(set(phony.group(1).split()) - {"python"})

    @pytest.mark.parametrize("target", ["run", "test", "check", "bench", "lock"])
    def test_without_python_one_line_says_so(self, target: str) -> None:
        done = self.make(target, "PYTHON=")
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.splitlines()[0].startswith(
            "MallWatt: cannot go on: no Python 3.11 or newer with venv was found"
        )


@pytest.mark.parametrize("name", ["run", "development", "server", "uv"])
def test_lock_files_are_hashed_and_name_no_index(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert "http" not in re.sub(r"httpx|httpcore|httptools|prometheus", "", text)
    assert "index" not in text.lower()
    pins = re.findall(r"^[a-z0-9][\w.-]*==[^\n]*(?:\n    --hash=\S+.*)*", text, re.MULTILINE)
    assert pins
    assert all("--hash=sha256:" in pin for pin in pins)
