"""The mallwatt command: parse, call, print (contract, section 1)."""

import argparse
import asyncio
import gc
import getpass
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from server.core.errors import InvalidInputError, MallwattError, NotFoundError
from server.core.supply.control_state import ControlState
from server.settings import Settings, SettingsError, load_settings

ROLES = ("owner", "finance", "engineer", "service", "read_only")
Command = Callable[[Settings, argparse.Namespace], Coroutine[Any, Any, int]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["sandbox"]:  # its options are the sandbox's own to read
        return _sandbox(words[1:])
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        print("mallwatt: an argument is not UTF-8", file=sys.stderr)
        return 2
    options = _parser().parse_args(words)
    try:
        settings = load_settings(os.environ)
        return _run(options.call(settings, options))
    except MallwattError as error:
        print(f"mallwatt: {error.detail or error.code}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(work: Coroutine[Any, Any, int]) -> int:
    """Run until done, or until SIGTERM or SIGINT cancels it: then 0, for it was asked to end."""

    async def until_signal() -> int:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with suppress(asyncio.CancelledError):
            return await task
        return 0

    return uvloop.run(until_signal())


def _sandbox(words: Sequence[str]) -> int:
    from payments.sandbox.__main__ import main as sandbox  # noqa: PLC0415  not for other commands

    return sandbox(words)


async def _serve(settings: Settings, options: argparse.Namespace) -> int:
    app = _app(settings)
    settings = _with_database(settings)
    serve: dict[str, Callable[[Settings], Awaitable[None]]] = {
        "web": app.serve_web,
        "collector": app.serve_collector,
        "worker": app.serve_worker,
    }
    await serve[options.role](settings)
    return 0


async def _migrate(settings: Settings, _options: argparse.Namespace) -> int:
    from server.models.database import migrate_database  # noqa: PLC0415  Tortoise is slow to load

    await migrate_database(_with_database(settings).database_url or "")
    print("the database is at the newest schema")
    return 0


async def _import(settings: Settings, options: argparse.Namespace) -> int:
    app = _app(settings)
    from server.merchants import unusable_settings  # noqa: PLC0415  see _app
    from server.services.site_file import SiteFileError  # noqa: PLC0415  see _app
    from server.services.site_import import import_site  # noqa: PLC0415  see _app

    async with app.open_outside(_with_database(settings)) as outside:
        try:
            report = await import_site(
                options.file,
                app.profile_facts(settings),
                app.wall_clock(),
                check_merchant=partial(unusable_settings, is_production=settings.is_production),
            )
        except SiteFileError as error:
            for fault in error.faults:
                print(f"{fault.place}: {fault.message}", file=sys.stderr)
            count = len(error.faults)
            errors = "1 error" if count == 1 else f"{count} errors"
            print(f"{errors}; nothing was imported", file=sys.stderr)
            return 1
        for name in ("created", "updated", "unchanged"):
            counts = getattr(report, name)
            details = ", ".join(f"{table} {count}" for table, count in sorted(counts.items()))
            print(f"{name} {sum(counts.values())}" + (f" ({details})" if details else ""))
        for warning in report.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        await outside.wakeups.tell("settle")
    return 0


async def _meter(settings: Settings, options: argparse.Namespace) -> int:
    app = _app(settings)
    from server.services.meter_orders import read_meter, switch_and_wait  # noqa: PLC0415  see _app

    actor = f"cli:{_account()}"
    async with app.open_outside(_with_database(settings)) as outside:
        now = app.wall_clock()
        if options.act == "read":
            result = await read_meter(
                options.code, options.site, outside.wakeups, actor=actor, now=now
            )
            print(msgspec.json.format(msgspec.json.encode(result)).decode())
            return 0
        disconnect = options.act == "disconnect"
        wanted = ControlState.DISCONNECTED if disconnect else ControlState.CONNECTED
        state = await switch_and_wait(
            options.code,
            options.site,
            wanted,
            outside.wakeups,
            actor=actor,
            reason=options.reason,
            now=now,
        )
        print(state.value)
    return 0


async def _manager(settings: Settings, options: argparse.Namespace) -> int:
    from server.services import managers  # noqa: PLC0415  see _app
    from server.services.manager_acts import Role  # noqa: PLC0415  see _app
    from server.services.sites import find_site  # noqa: PLC0415  see _app

    password = getpass.getpass("password: ") if sys.stdin.isatty() else sys.stdin.readline()
    async with _database(settings):
        site_id = await find_site(options.site) if options.site else None
        role = Role(options.role)
        password = password.rstrip("\r\n")
        await managers.add(options.name, password, role, site_id, datetime.now(UTC))
    print(f"manager {options.name} may log in as {options.role}")
    return 0


async def _audit(settings: Settings, options: argparse.Namespace) -> int:
    from server.services.audit import audit  # noqa: PLC0415  see _app

    def progress(line: str) -> None:
        if not options.json:
            print(line, file=sys.stderr, flush=True)

    since, until = options.day or options.since, options.day
    async with _database(settings):
        report = await audit(progress, since=since, until=until)
    if options.json:
        answer = {
            "passed": report.passed,
            "since": report.since,
            "until": report.until,
            "checked": report.checked,
            "awaiting_correction": report.awaiting_correction,
            "violation_count": report.violation_count,
            "violations": report.violations,
        }
        print(msgspec.json.encode(answer).decode())
    else:
        for one in report.violations:
            print(f"{one.rule}: {one.subject} {one.detail}")
        print(report.summary())
    return 0 if report.passed else 1


async def _reconcile(settings: Settings, options: argparse.Namespace) -> int:
    app = _app(settings)
    from server.services import reconciliation_report  # noqa: PLC0415  see _app

    async with app.open_outside(_with_database(settings)) as outside:
        try:
            report = await reconciliation_report.report(
                options.day, options.site, outside.merchants, outside.wakeups, app.wall_clock
            )
        except (InvalidInputError, NotFoundError) as error:
            print(f"mallwatt: {error.detail}", file=sys.stderr)
            return reconciliation_report.NOT_COMPARED
    if options.json:
        print(msgspec.json.encode(report.as_json()).decode())
    else:
        for line in report.lines():
            print(line)
    return report.status


async def _run_all(settings: Settings, options: argparse.Namespace) -> int:
    _app(settings)
    from server.local.run import run_all  # noqa: PLC0415  see _app

    if options.port is not None:
        settings = replace(
            settings,
            http=replace(settings.http, port=options.port),
            public_url=_moved(settings, options.port),
        )
    return await run_all(settings, demo=not options.no_demo)


def _moved(settings: Settings, port: int) -> str:
    """The public URL follows the port where it was not set to something else."""
    default = f"http://{settings.http}"
    if settings.public_url == default:
        return f"http://{replace(settings.http, port=port)}"
    return settings.public_url


def _account() -> str:
    """Who runs the command; a container's account may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _app(settings: Settings) -> Any:
    """The composition root, loaded when a command needs it: it takes most of a second."""
    _configure_logging(settings)
    gc.disable()  # a fifth of that time went into a search for garbage where all of it stays
    import server.app  # noqa: PLC0415  the reason stands above

    gc.freeze()
    gc.enable()
    return server.app


def _configure_logging(settings: Settings) -> None:
    """From here on what is logged has our form: structlog's own shows every local of a trace."""
    from server.logs import configure_logging  # noqa: PLC0415  structlog is slow to load

    configure_logging(settings)


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[None]:
    """The database alone, for commands that reach nothing else: without most of `_app`'s second."""
    from server.models.database import (  # noqa: PLC0415  Tortoise is slow to load
        close_database,
        open_database,
    )

    _configure_logging(settings)
    await open_database(_with_database(settings).database_url or "")
    try:
        yield
    finally:
        await close_database()


def _with_database(settings: Settings) -> Settings:
    """Settings with a database; a command beside `mallwatt run` finds the embedded one."""
    if settings.database_url is not None:
        return settings
    from server.local.running import running_urls  # noqa: PLC0415  only without a setting

    urls = running_urls(settings.data_dir)
    if urls is None:
        raise SettingsError(
            "MALLWATT_DATABASE_URL is missing, and no `mallwatt run` is running with "
            f"MALLWATT_DATA_DIR={settings.data_dir}"
        )
    return urls.applied_to(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mallwatt", description="Prepaid electricity for malls.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = _command(commands, "run", _run_all, "the whole product in one go")
    run.add_argument("--port", type=_port, help="where the pages are served")
    run.add_argument("--no-demo", action="store_true", help="start empty")
    serve = _command(commands, "serve", _serve, "one role")
    serve.add_argument("role", choices=("web", "collector", "worker"))
    _command(commands, "migrate", _migrate, "bring the database to the newest schema")
    import_ = _command(commands, "import", _import, "load or update a site file")
    import_.add_argument("file", type=lambda name: Path(name).absolute())
    meter = _command(commands, "meter", _meter, "read or switch one meter")
    acts = meter.add_subparsers(dest="act", required=True, metavar="ACT")
    for act in ("read", "disconnect", "reconnect"):
        one = acts.add_parser(act)
        one.add_argument("code")
        one.add_argument("--site")
        if act != "read":
            one.add_argument("--reason", required=True)
    manager = _command(commands, "manager", _manager, "add a manager; password from stdin")
    adding = manager.add_subparsers(dest="act", required=True, metavar="ACT").add_parser("add")
    adding.add_argument("name")
    adding.add_argument("--role", required=True, choices=ROLES)
    adding.add_argument("--site")
    audit = _command(commands, "audit", _audit, "prove the books")
    audit.add_argument("--json", action="store_true")
    days = audit.add_mutually_exclusive_group()
    days.add_argument("--day", type=_day, help="the statements and the journal of one day")
    days.add_argument("--since", type=_day, help="those from this day on")
    reconcile = _command(commands, "reconcile", _reconcile, "compare a day with platforms' bills")
    reconcile.add_argument("day", metavar="DATE", type=_day, help="a Chinese day that is over")
    reconcile.add_argument("--site", help="the merchants of one mall")
    reconcile.add_argument("--json", action="store_true")
    commands.add_parser("sandbox", help="the sandbox platforms alone")
    return parser


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a day is YYYY-MM-DD, not {text!r}") from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise argparse.ArgumentTypeError("a port is between 1 and 65535")
    return int(text)


def _command(commands: Any, name: str, call: Command, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(call=call)
    return parser


if __name__ == "__main__":
    sys.exit(main())
