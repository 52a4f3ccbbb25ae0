"""An import's versions of one kind, tariffs or fixed charges; none may touch days that are done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from server.models.database import Connection, row, to_json
from server.services.site_file import Fault
from server.services.site_import_counts import Counts


@dataclass(frozen=True, slots=True)
class VersionKind:
    """A table of versions: how one is written, and the last day that it already decided."""

    name: str
    upsert: str  # $1 site, $2 code, $3 valid from, $4 definition; RETURNING created
    last_day: str  # $1 site, $2 code, $3 valid from; AS day
    done: str  # what such a day is, in words


async def import_versions(
    connection: Connection,
    site_id: int,
    kind: VersionKind,
    tables: Sequence[Mapping[str, object]],
    counts: Counts,
) -> list[Fault]:
    """Write the versions; a fault for each that touches days that are done."""
    faults = []
    for index, table in enumerate(tables):
        code, valid_from = str(table["code"]), date.fromisoformat(str(table["valid_from"]))
        found = await row(connection, kind.upsert, site_id, code, valid_from, to_json(table))
        counts.note(kind.name, found)
        done = await row(connection, kind.last_day, site_id, code, valid_from) if found else None
        if done is not None and done["day"] is not None:
            text = f"{code}: days up to {done['day']} are {kind.done}; a version from {valid_from} "
            faults.append(Fault(f"{kind.name}[{index}]", text + "would change them"))
    return faults
