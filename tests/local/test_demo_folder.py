"""What the demo keeps beside the database is its owner's alone."""

import stat
from datetime import UTC, datetime
from pathlib import Path

from server.local.demo.folder import DemoFolder, hint
from server.local.demo.mall import DEMO

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)


def test_nobody_else_may_read_the_demos_files(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("of an older version", encoding="utf-8")
    (tmp_path / "site.toml").chmod(0o644)
    demo = DemoFolder(tmp_path)
    demo.password()
    demo.write_site_file(DEMO)
    demo.write_simulators(DEMO, NOW)
    written = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("*.*")}
    assert set(written) >= {"site.toml", "ports.json", "gw-01.json", "gw-03.json", "password.txt"}
    assert set(written.values()) == {0o600}
    assert demo.site_path.read_text(encoding="utf-8").startswith("[site]")
    assert DemoFolder(tmp_path).ports == demo.ports


def test_a_shop_runs_empty_at_the_first_start_only() -> None:
    rest = "top it up at http://mall/s/x (binding code 1234)"
    for first_start, course in ((True, "A111 runs empty within minutes"), (False, "A111")):
        told = hint("A111", "http://mall/s/x", "1234", first_start=first_start)
        assert told == f"shop {course}: {rest}"


def test_simulators_speak_to_machines_and_the_sandbox_to_people(tmp_path: Path) -> None:
    mute = {child.name for child in DemoFolder(tmp_path).children({}) if child.mute}
    assert mute == {"meters of gw-01", "meters of gw-02", "meters of gw-03"}
