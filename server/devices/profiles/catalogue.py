"""All profiles: those shipped, and those in the operator's own folder, which win."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from server.devices.errors import ProfileError, ProfileFault
from server.devices.profiles.document import SIZE_LIMIT, Document
from server.devices.profiles.parsing import parse_profile
from server.devices.profiles.profile import Profile

SHIPPED_FOLDER = Path(__file__).parent
FILE_LIMIT = 2_000


def load_catalogue(extra_folder: Path | None = None) -> Mapping[str, Profile]:
    """Every profile by its maker/model; raises ProfileError with every fault in every file.

    A profile in `extra_folder` replaces a shipped one of the same name.
    """
    faults: list[ProfileFault] = []
    profiles = _load_folder(SHIPPED_FOLDER, faults)
    if extra_folder is not None:
        if extra_folder.is_dir():
            profiles |= _load_folder(extra_folder, faults)
        else:
            faults.append(ProfileFault(str(extra_folder), 1, "", "is not a folder"))
    if faults:
        raise ProfileError(faults)
    return MappingProxyType(dict(sorted(profiles.items())))


def load_profile(path: Path) -> Profile:
    """The profile in one file; raises ProfileError."""
    faults: list[ProfileFault] = []
    profile = _load_file(path, path.name, faults)
    if profile is None:
        raise ProfileError(faults)
    return profile


def _load_folder(folder: Path, faults: list[ProfileFault]) -> dict[str, Profile]:
    files = sorted(path for path in folder.rglob("*.y*ml") if path.suffix in {".yaml", ".yml"})
    if len(files) > FILE_LIMIT:
        faults.append(ProfileFault(str(folder), 1, "", f"has more than {FILE_LIMIT} profiles"))
        return {}
    profiles: dict[str, Profile] = {}
    first_file: dict[str, str] = {}
    for path in files:
        name = str(path.relative_to(folder))
        profile = _load_file(path, name, faults)
        if profile is None:
            continue
        if profile.name in profiles:
            message = f"{profile.name} is also in {first_file[profile.name]}"
            faults.append(ProfileFault(name, 1, "model", message))
        profiles[profile.name] = profile
        first_file[profile.name] = name
    return profiles


def _load_file(path: Path, name: str, faults: list[ProfileFault]) -> Profile | None:
    document = Document(name)
    profile = None
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT + 1)
        profile = parse_profile(raw.decode("utf-8-sig"), document)
    except OSError as error:
        document.fault(f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        document.fault("is not UTF-8 text")
    faults += document.faults
    return profile
