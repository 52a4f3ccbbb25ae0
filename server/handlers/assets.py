"""Styles, scripts and pictures under names that hold their content's digest."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import web

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of web/static; `url` changes with its content, so it may be kept for ever."""

    name: str
    digest: str
    content: bytes
    content_type: str

    @property
    def url(self) -> str:
        """Where the file is served."""
        return f"/static/{self.digest}/{self.name}"


@lru_cache(maxsize=1)
def assets() -> dict[str, Asset]:
    """Every file of web/static by name, read once."""
    found = {}
    for path in sorted((web.FOLDER / "static").iterdir()):
        if path.suffix in TYPES:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:16]
            found[path.name] = Asset(path.name, digest, content, TYPES[path.suffix])
    return found


def asset_url(name: str) -> str:
    """The URL of a file of web/static; KeyError where there is none."""
    return assets()[name].url
