"""The words of the pages: one TOML file a language in web/messages, the same keys in each."""

import tomllib
from functools import lru_cache

import web
from server.http.locale import Locale


@lru_cache(maxsize=4)
def messages(locale: Locale) -> dict[str, str]:
    """All messages of a language by dotted key."""
    text = (web.FOLDER / "messages" / f"{locale.value}.toml").read_text(encoding="utf-8")
    return {
        f"{group}.{name}": words
        for group, entries in tomllib.loads(text).items()
        for name, words in entries.items()
    }


def say(locale: Locale, key: str, **values: object) -> str:
    """One message with its values filled in; an unknown code of a group says itself."""
    words = messages(locale).get(key)
    if words is None:
        return key.partition(".")[2] or key
    return words.format(**values)
