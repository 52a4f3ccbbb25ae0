"""What a container's health check asks: `python -m server.local.health web|role`."""

import asyncio
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence

import asyncpg

from server.settings import Settings, SettingsError, load_settings

WITHIN_S = 4
USAGE = "usage: python -m server.local.health web|role"


def web_problem(settings: Settings) -> str | None:
    """What is wrong with the web role that listens here; None: nothing."""
    url = f"http://127.0.0.1:{settings.http.port}/health/ready"
    try:
        with urllib.request.urlopen(url, timeout=WITHIN_S):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return f"{url} answers {error.code}"
    except OSError as error:
        return f"{url} does not answer: {error}"


async def role_problem(settings: Settings) -> str | None:
    """What keeps a role without a door from its work; None: nothing."""
    if settings.database_url is None:
        return "MALLWATT_DATABASE_URL is not set"
    try:
        connection = await asyncpg.connect(settings.database_url, timeout=WITHIN_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return f"the database does not answer: {error}"
    await connection.close(timeout=WITHIN_S)
    return None


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Exit code 0 where all is well, else 1 and a line."""
    try:
        settings = load_settings(environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    match list(arguments):
        case ["web"]:
            problem = web_problem(settings)
        case ["role"]:
            problem = asyncio.run(role_problem(settings))
        case _:
            problem = USAGE
    if problem is None:
        return 0
    sys.stderr.write(f"{problem}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
