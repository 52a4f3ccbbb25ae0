"""Meter models as YAML: a new meter is data, no Python."""

from server.devices.profiles.catalogue import load_catalogue
from server.devices.profiles.profile import Limits, Point, Profile, Supply

__all__ = ["Limits", "Point", "Profile", "Supply", "load_catalogue"]
