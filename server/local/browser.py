"""Finds, or on Debian and Ubuntu installs, the browser and the Chinese fonts that tests need."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# the shell is the same engine without a window's machinery, and takes a third less time
BROWSERS = (
    "chromium-headless-shell",
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
)
FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts")
CHINESE_FONTS = ("*CJK*", "*wqy*", "*Hei*", "*SourceHan*")
PACKAGES = {"browser": "chromium-headless-shell", "fonts": "fonts-noto-cjk"}
NAMES = {"browser": "Chromium", "fonts": "Chinese fonts (Noto CJK)"}
APT_OPTIONS = ("-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0")
CHECK_S = 30


def find_browser() -> Path | None:
    """A Chromium that starts: MALLWATT_BROWSER, or on the PATH, or fetched by Playwright."""
    named = os.environ.get("MALLWATT_BROWSER")
    names = [named] if named else [*BROWSERS, *_downloaded()]
    for name in names:
        path = shutil.which(name)
        if path is not None and _starts(path):
            return Path(path)
    return None


def _downloaded() -> list[str]:
    """Those that Playwright has fetched, the newest first."""
    folder = os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache/ms-playwright"
    found = Path(folder).glob("chromium-*/chrome-linux*/chrome")
    return sorted(map(str, found), reverse=True)


def _starts(path: str) -> bool:
    """Whether it runs at all: Ubuntu's package only points to a snap."""
    try:
        done = subprocess.run(  # noqa: S603 - a browser found on the PATH
            [path, "--version"], capture_output=True, timeout=CHECK_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def has_chinese_fonts() -> bool:
    """Whether pages in Chinese can be looked at."""
    home = Path.home() / ".local/share/fonts"
    folders = [path for path in (*map(Path, FONT_FOLDERS), home) if path.is_dir()]
    if sys.platform == "darwin":
        return True  # macOS comes with them
    return any(next(f.rglob(pattern), None) for f in folders for pattern in CHINESE_FONTS)


def missing() -> list[str]:
    """Which of browser and fonts are not there."""
    found = {"browser": find_browser() is not None, "fonts": has_chinese_fonts()}
    return [name for name, there in found.items() if not there]


def apt_prefix() -> list[str] | None:
    """How apt-get may be called here; None where it may not."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return ["apt-get"]
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    asks = [] if sys.stdin.isatty() else ["--non-interactive"]
    return [sudo, *asks, "DEBIAN_FRONTEND=noninteractive", "apt-get"]


def steps(names: Sequence[str], apt: Sequence[str], system: str) -> list[list[str]]:
    """The commands that install them; Ubuntu's own Chromium is a snap, unfit for tests."""
    fetched = {"browser"} if system == "ubuntu" else set()
    commands = []
    if packages := [PACKAGES[name] for name in names if name not in fetched]:
        commands.append([*apt, *APT_OPTIONS, "update"])
        install = ["install", "--yes", "--no-install-recommends"]
        commands.append([*apt, *APT_OPTIONS, *install, *packages])
    if fetched & set(names):
        playwright = [sys.executable, "-m", "playwright", "install", "--with-deps", "chromium"]
        commands.append(playwright)
    return commands


def install(names: Sequence[str], apt: Sequence[str]) -> bool:
    """Install them, showing the tools' words."""
    what = " and ".join(NAMES[name] for name in names)
    sys.stdout.write(f"MallWatt: installing {what} for the tests (about a minute)\n")
    sys.stdout.flush()
    try:
        system = platform.freedesktop_os_release().get("ID", "")
    except OSError:
        system = ""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return all(
        subprocess.run(  # noqa: S603 - apt-get and playwright with fixed words
            command, env=env, stdin=subprocess.DEVNULL, check=False
        ).returncode
        == 0
        for command in steps(names, apt, system)
    )


def main() -> int:
    """Have browser and fonts, or say in one line what is missing."""
    wanted = missing()
    if not wanted:
        return 0
    apt = apt_prefix()
    if apt is not None and install(wanted, apt):
        wanted = missing()
    if not wanted:
        return 0
    what = " and ".join(NAMES[name] for name in wanted)
    why = "it could not be installed" if apt else "install it, on Debian as root or with sudo"
    advice = "or name a Chromium with MALLWATT_BROWSER" if "browser" in wanted else ""
    sys.stderr.write(
        f"MallWatt: cannot go on: the tests need {what}: {why} {advice}".strip() + "\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
