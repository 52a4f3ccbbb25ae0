"""Files that a merchant fetches within half a minute: bills."""

import secrets
from datetime import datetime, timedelta

FILE_LIVES = timedelta(seconds=30)
FILES_MAX = 1_000


class Files:
    """Files to be fetched within half a minute, by a token; no more than so many."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[datetime, bytes]] = {}

    def put(self, content: bytes, now: datetime) -> str:
        """Keep a file; its token."""
        for token in [token for token, (until, _) in self._files.items() if until <= now]:
            del self._files[token]
        while len(self._files) >= FILES_MAX:
            del self._files[next(iter(self._files))]
        token = secrets.token_urlsafe(48)
        self._files[token] = (now + FILE_LIVES, content)
        return token

    def get(self, token: str, now: datetime) -> bytes | None:
        """The file, unless its time is over."""
        until, content = self._files.get(token, (now, b""))
        return content if now < until else None
