"""From a site file's text to its values, or to all its faults at once, with their places.

pydantic reads the shapes; tariffs, fixed charges and policies are core's to read; what one table
says of another is checked last.
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from server.core.supply.policy import SupplyPolicyError, parse_supply_policy, policy_table
from server.core.tariff.parse import (
    TariffErrors,
    fixed_charge_table,
    parse_fixed_charge,
    parse_tariff,
    tariff_table,
)
from server.services.site_checks import (
    cross_faults,
    merchant_faults,
    own_faults,
    reference_faults,
)
from server.services.site_file import (
    CODE,
    CheckMerchant,
    Fault,
    KnownCodes,
    ProfileFacts,
    SiteDocument,
    SiteFileError,
    SiteFileTables,
)
from server.services.site_mending import is_below, mended, odd_texts, place_of

FILE_BYTES_MAX = 16 * 1024 * 1024


def read_content(path: Path) -> str:
    """The text of a site file; raises SiteFileError."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise SiteFileError([Fault(str(path), f"is over {FILE_BYTES_MAX} bytes")])
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SiteFileError([Fault(str(path), error.strerror or "cannot be read")]) from error
    except UnicodeDecodeError as error:
        raise SiteFileError([Fault(str(path), f"is not UTF-8 (byte {error.start})")]) from error


def site_code_of(content: str) -> str | None:
    """The site's code, if the text gets as far as having one; raises SiteFileError for no TOML."""
    site = _toml(content).get("site")
    code = site.get("code") if isinstance(site, dict) else None
    return code if isinstance(code, str) and re.fullmatch(CODE, code) else None


def _toml(content: str) -> dict[str, object]:
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise SiteFileError([Fault("file", f"is not TOML: {error}")]) from error
    except RecursionError as error:
        raise SiteFileError([Fault("file", "is nested too deeply")]) from error


class _Faults:
    """What was found, phase by phase: what lies in a place that is known as faulty is not news."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, faults: Sequence[Fault]) -> None:
        """All of a phase."""
        places = frozenset(fault.place for fault in self.found)
        self.found += [one for one in faults if not is_below(one.place, places)]


def parse_site_file(
    content: str,
    folder: Path,
    profiles: Mapping[str, ProfileFacts],
    known: KnownCodes,
    check_merchant: CheckMerchant,
) -> SiteDocument:
    """Check the text of a file; key paths are relative to `folder`; raises SiteFileError.

    Reads key files. Whatever is wrong is told at once: what has no good shape is mended, and the
    rest is looked at.
    """
    raw = _toml(content)
    faults = _Faults()
    tables = _tables(raw, faults)
    core_faults: list[Fault] = []
    policies, tariffs, fixed = _core_tables(raw, core_faults)
    faults.add(core_faults)
    faults.add(
        [
            *own_faults(tables, folder),
            *cross_faults(tables, profiles),
            *reference_faults(tables, _all_known(raw, tables, known)),
        ]
    )
    faults.add(merchant_faults(tables, folder, check_merchant))
    if faults.found:
        raise SiteFileError(faults.found)
    return SiteDocument(tables, folder, policies, tariffs, fixed)


def _tables(raw: Mapping[str, object], faults: _Faults) -> SiteFileTables:
    """The tables; where something has no good shape, mended ones."""
    odd = [*odd_texts(raw)]
    faults.add([Fault(place_of(location), text) for location, text in odd])
    mend = [location for location, _ in odd]
    try:
        tables = SiteFileTables.model_validate(raw)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        faults.add([Fault(place_of(one["loc"]), one["msg"]) for one in errors])
        mend += [one["loc"] for one in errors]
    else:
        if not mend:
            return tables
    try:
        return SiteFileTables.model_validate(mended(raw, mend))
    except ValidationError:  # past mending: what is known by now has to do
        raise SiteFileError(faults.found) from None


def _all_known(raw: Mapping[str, object], tables: SiteFileTables, known: KnownCodes) -> KnownCodes:
    """What may be named: also what is written with faults, for those are told already."""
    shops, meters = tables.shop, tables.meter
    policies = _written(raw, "supply_policy", [one.supply_policy for one in shops])
    charges = [code for one in shops for code in one.fixed_charges]
    return KnownCodes(
        supply_policies=known.supply_policies | policies | {"standard"},
        tariffs=known.tariffs | _written(raw, "tariff", [one.tariff for one in shops]),
        fixed_charges=known.fixed_charges | _written(raw, "fixed_charge", charges),
        gateways=known.gateways | _written(raw, "gateway", [one.gateway for one in meters]),
        shops=known.shops | _written(raw, "shop", [one.shop for one in meters if one.shop]),
    )


def _written(raw: Mapping[str, object], name: str, named: Sequence[str]) -> set[str]:
    """The codes of a table; where it is no table at all, whatever is named."""
    written = raw.get(name, [])
    if isinstance(written, dict) and name == "supply_policy":
        return set(written)
    if not isinstance(written, list):
        return set(named) if name in raw else set()
    return {str(one.get("code")) for one in written if isinstance(one, dict)}


def _core_tables(
    raw: Mapping[str, object], faults: list[Fault]
) -> tuple[dict[str, dict[str, object]], list[dict[str, object]], list[dict[str, object]]]:
    """Policies, tariffs and fixed charges as core reads them, in their canonical form."""
    policies: dict[str, dict[str, object]] = {"standard": policy_table(parse_supply_policy({}))}
    written = raw.get("supply_policy")
    for code, table in written.items() if isinstance(written, dict) else ():
        if not isinstance(table, dict):
            continue
        try:
            policies[code] = policy_table(parse_supply_policy(table))
        except SupplyPolicyError as error:
            faults += [
                Fault(place_of(("supply_policy", code, key)), text) for key, text in error.problems
            ]
    tariffs = _core_list(raw, "tariff", lambda one: tariff_table(parse_tariff(one)), faults)
    fixed = _core_list(
        raw, "fixed_charge", lambda one: fixed_charge_table(parse_fixed_charge(one)), faults
    )
    return policies, tariffs, fixed


def _core_list(
    raw: Mapping[str, object],
    name: str,
    read: Callable[[Mapping[str, object]], dict[str, object]],
    faults: list[Fault],
) -> list[dict[str, object]]:
    read_tables: list[dict[str, object]] = []
    listed = raw.get(name)
    for index, table in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(table, dict):
            continue
        try:
            read_tables.append(read(table))
        except TariffErrors as error:
            faults += [Fault(f"{name}[{index}].{key}", text) for key, text in error.errors]
    keys = [(one["code"], one["valid_from"]) for one in read_tables]
    for key in sorted({key for key in keys if keys.count(key) > 1}, key=str):
        faults.append(Fault(name, f"two versions of {key[0]} are valid from {key[1]}"))
    return read_tables
