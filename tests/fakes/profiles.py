"""The profiles that the product ships, read once a process."""

from collections.abc import Mapping
from functools import cache

from server.devices.profiles.catalogue import load_catalogue
from server.devices.profiles.profile import Profile


@cache
def shipped_profiles() -> Mapping[str, Profile]:
    """As the collector loads them."""
    return load_catalogue()
