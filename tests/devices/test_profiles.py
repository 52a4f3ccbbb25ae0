import re
from decimal import Decimal
from pathlib import Path

import pytest

from server.core.supply.control_state import ControlState
from server.devices.errors import MeterValueError, ProfileError
from server.devices.profiles import Profile, load_catalogue
from server.devices.profiles.catalogue import SHIPPED_FOLDER, load_profile
from server.devices.profiles.decoding import decode_sample, split_answer
from server.devices.profiles.profile import ENERGY_TOTAL, IDENTITY, STATE
from server.devices.profiles.values import Kind
from server.devices.protocols.dlt645 import Dlt645Speaker
from server.devices.protocols.modbus import Framing, ModbusSpeaker
from server.devices.protocols.requests import DataRead, RegisterRead, RegisterWrite, RelayCommand
from tests.fakes.profiles import shipped_profiles

CATALOGUE = shipped_profiles()
MODBUS = ModbusSpeaker(Framing.RTU, 1)
DLT645 = Dlt645Speaker("000000000161", bytes(4), bytes(4))

CONTRACT_MODBUS = (SHIPPED_FOLDER / "example" / "demo-relay.yaml").read_text("utf-8")
CONTRACT_DLT645 = """
maker: acme
model: box
protocol: dlt645
points:
  energy_total: {di: "00010000", type: bcd, bytes: 4, scale: "0.01", unit: kWh}
supply:
  disconnect: {command: "1A"}
  reconnect:  {command: "1B"}          # 1B only permits: somebody presses the button; "1C" closes
  state:      {di: "04000503", mask: 0x0010, connected: 0}
"""


def parse(folder: Path, text: str) -> Profile:
    path = folder / "profile.yaml"
    path.write_text(text, "utf-8")
    return load_profile(path)


def raw_value(kind: Kind, size: int) -> bytes:
    """A small number that is sound in every kind."""
    return b"\x41\x20\x00\x00" if kind is Kind.FLOAT else bytes([1] * size)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_shipped_profile_is_asked_and_decoded(name: str) -> None:
    profile = CATALOGUE[name]
    for steps in (profile.steps, profile.single_steps):
        values: dict[str, bytes] = {}
        for step in steps:
            speaker = MODBUS if profile.protocol == "modbus" else DLT645
            assert speaker.ask(step.request).frame
            request = step.request
            assert isinstance(request, RegisterRead | DataRead)
            size = request.count * 2 if isinstance(request, RegisterRead) else request.size
            names = split_answer(step, bytes(size))
            for part in names:
                place = profile.points.get(part)
                values[part] = (
                    raw_value(place.codec.kind, place.codec.size) if place else names[part]
                )
                assert len(values[part]) == len(names[part])
        sample = decode_sample(profile, values)
        assert set(sample.points) == set(profile.points)
        assert sample.register_wh > 0
        assert (sample.control_state is None) == (profile.supply is None)
        assert (sample.identity is None) == (profile.identity is None)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_shipped_profile_cites_its_source(name: str) -> None:
    profile = CATALOGUE[name]
    assert len(profile.source) > 20
    assert re.fullmatch(r"[a-z0-9]+/[a-z0-9-]+", profile.name)
    if profile.supply is not None:
        assert any(step.holds(STATE) for step in profile.steps)


def test_the_contracts_example_means_what_it_says(tmp_path: Path) -> None:
    profile = parse(tmp_path, CONTRACT_MODBUS)
    assert profile == CATALOGUE["example/demo-relay"]
    power = profile.points["power_total"]
    assert (power.scale, power.unit) == (Decimal("0.001"), "kW")
    assert profile.limits.max_power_kw == Decimal(30)
    assert profile.limits.rollover_wh == 1_000_000_000
    assert profile.supply is not None
    assert profile.supply.disconnect == RegisterWrite(5, 0, (0,))
    assert profile.supply.reconnect == RegisterWrite(5, 0, (1,))
    asked = {part.name: step.request for step in profile.steps for part in step.parts}
    assert asked == {
        IDENTITY: RegisterRead(3, 0xF010, 2),
        ENERGY_TOTAL: RegisterRead(3, 0, 2),
        STATE: RegisterRead(1, 0, 1),
        "power_total": RegisterRead(4, 12, 2),
    }


def test_the_contracts_dlt645_example_means_what_it_says(tmp_path: Path) -> None:
    profile = parse(tmp_path, CONTRACT_DLT645)
    assert profile.supply is not None
    assert (profile.supply.disconnect, profile.supply.permits_only) == (RelayCommand(0x1A), True)
    values = {ENERGY_TOTAL: bytes.fromhex("26000000"), STATE: bytes.fromhex("5000")}
    sample = decode_sample(profile, values)
    assert sample.points[ENERGY_TOTAL].value == Decimal("0.26")
    assert (sample.register_wh, sample.control_state) == (260, ControlState.DISCONNECTED)
    assert profile.limits.rollover_wh == 1_000_000_000


@pytest.mark.parametrize(
    ("unit", "scale", "raw", "wh"),
    [
        ("kWh", "0.01", 12_345, 123_450),
        ("Wh", "1", 12_345, 12_345),
        ("Wh", "0.1", 12_345, 1_235),
        ("MWh", "0.001", 12_345, 12_345_000),
        ("kWh", "0.0001", 5, 1),
        ("kWh", "0.0001", 4, 0),
    ],
)
def test_energy_is_whole_watt_hours_half_up(
    tmp_path: Path, unit: str, scale: str, raw: int, wh: int
) -> None:
    text = CONTRACT_MODBUS.replace('scale: "0.01", unit: kWh', f'scale: "{scale}", unit: {unit}')
    profile = parse(tmp_path, text)
    assert decode_sample(profile, {ENERGY_TOTAL: raw.to_bytes(4)}).register_wh == wh


STATES = [
    ("function: 1, address: 0, connected: 1", "01", "connected"),
    ("function: 1, address: 0, connected: 1", "00", "disconnected"),
    ("function: 1, address: 0, connected: 1", "FE", "disconnected"),
    ("function: 2, address: 0, connected: 0", "00", "connected"),
    ("function: 1, address: 0, connected: true", "01", "connected"),
    ("function: 1, address: 0, disconnected: 1", "01", "disconnected"),
    ("function: 1, address: 0, disconnected: 1", "00", "connected"),
    ("function: 1, address: 0, mask: 0x3, connected: 3", "03", "connected"),
    ("function: 1, address: 0, mask: 0x3, connected: 3", "02", "disconnected"),
    ("function: 3, address: 9, connected: 1", "0001", "connected"),
    ("function: 4, address: 9, connected: 0xAA, disconnected: 0x55", "00AA", "connected"),
    ("function: 4, address: 9, connected: 0xAA, disconnected: 0x55", "0055", "disconnected"),
    ("function: 4, address: 9, connected: 0xAA, disconnected: 0x55", "0000", None),
    ("function: 3, address: 9, mask: 0x2000, connected: 0x2000", "3FFF", "connected"),
    ("function: 3, address: 9, mask: 0x2000, connected: 0x2000", "1FFF", "disconnected"),
    ("function: 3, address: 9, mask: 0x2000, connected: 1", "2000", "connected"),
    ("function: 3, address: 9, mask: 0x2000, connected: 1, disconnected: 0", "0", "disconnected"),
    ("function: 3, address: 9, mask: 0x10, connected: 0", "0010", "disconnected"),
    ("function: 3, address: 9, type: u32, mask: 0x10000, connected: 0x10000", "00010000",
     "connected"),
]  # fmt: skip


@pytest.mark.parametrize(("state", "raw", "expected"), STATES)
def test_a_state_is_read_by_its_mask_and_values(
    tmp_path: Path, state: str, raw: str, expected: str | None
) -> None:
    text = CONTRACT_MODBUS.replace("function: 1, address: 0, connected: 1", state)
    supply = parse(tmp_path, text).supply
    assert supply is not None
    assert supply.state.decode(bytes.fromhex(raw.zfill(2))) == expected


@pytest.mark.parametrize(
    ("write", "request_"),
    [
        ("function: 5, address: 3, value: 0xFF00", RegisterWrite(5, 3, (1,))),
        ("function: 6, address: 3, value: 0xAAAA", RegisterWrite(6, 3, (0xAAAA,))),
        ("function: 15, address: 3, values: [1, 0]", RegisterWrite(15, 3, (1, 0))),
        ("function: 16, address: 87, values: [1, 1]", RegisterWrite(16, 87, (1, 1))),
        ("function: 16, address: 87, value: 7", RegisterWrite(16, 87, (7,))),
    ],
)
def test_a_relay_is_written_in_five_ways(
    tmp_path: Path, write: str, request_: RegisterWrite
) -> None:
    text = CONTRACT_MODBUS.replace("function: 5, address: 0, value: 1", write)
    supply = parse(tmp_path, text).supply
    assert supply is not None
    assert supply.reconnect == request_


def test_absent_and_senseless_points_are_left_out_but_never_the_energy(tmp_path: Path) -> None:
    profile = CATALOGUE["standard/dlt645-2007-relay"]
    values = {
        ENERGY_TOTAL: b"\x26\0\0\0",
        "voltage_a": b"\xff\xff",
        "power_total": b"\x0a\x00\x00",
        STATE: b"\0\0",
    }
    assert set(decode_sample(profile, values).points) == {ENERGY_TOTAL}
    with pytest.raises(MeterValueError):
        decode_sample(profile, values | {ENERGY_TOTAL: b"\xff\xff\xff\xff"})
    with pytest.raises(MeterValueError):
        decode_sample(profile, values | {ENERGY_TOTAL: b"\x0a\0\0\0"})


ONLY_VALLEY = (None, None, None, 6, None)
PERIOD = '  energy_{}: {{function: 3, address: {}, type: i32, scale: "{}", unit: {}}}\n'


@pytest.mark.parametrize(
    ("points", "shown", "periods_wh"),
    [
        ([], {}, None),
        ([("peak", "0.01", "kWh")], {}, None),  # named, and the meter does not answer
        ([("peak", "0.01", "kWh")], {"peak": 5}, (None, 50, None, None, None)),
        (
            [("deep_valley", "1", "Wh"), ("sharp", "0.001", "MWh"), ("flat", "0.1", "Wh")],
            {"deep_valley": 7, "sharp": 8, "flat": 5},
            (8_000, None, 1, None, 7),
        ),
        ([("peak", "1", "kvarh"), ("valley", "1", "Wh")], {"peak": 5, "valley": 6}, ONLY_VALLEY),
        ([("peak", "1", "Wh"), ("valley", "1", "Wh")], {"peak": -5, "valley": 6}, ONLY_VALLEY),
    ],
)
def test_registers_of_periods_are_whole_watt_hours(
    tmp_path: Path,
    points: list[tuple[str, str, str]],
    shown: dict[str, int],
    periods_wh: tuple[int | None, ...] | None,
) -> None:
    """A register of another kind, or below zero, is as good as none."""
    added = "".join(
        PERIOD.format(name, 200 + 2 * place, scale, unit)
        for place, (name, scale, unit) in enumerate(points)
    )
    profile = parse(tmp_path, CONTRACT_MODBUS.replace("points:\n", f"points:\n{added}"))
    values = {f"energy_{name}": raw.to_bytes(4, signed=True) for name, raw in shown.items()}
    sample = decode_sample(profile, values | {ENERGY_TOTAL: bytes(4)})
    assert sample.periods_wh == periods_wh


POINT = next(line for line in CONTRACT_MODBUS.splitlines() if "energy_total" in line)
BAD = [
    ("protocol: modbus", "protocol: bacnet", "3: protocol: 'bacnet'"),
    ("type: u32, word", "type: u33, word", "6: points.energy_total.type: 'u33'"),
    ("unit: kWh", "unit: kvarh", "the unit is one of Wh, kWh, MWh"),
    ("function: 3, address: 0,", "function: 7, address: 0,", "7 is not one of [1, 2, 3, 4]"),
    ("address: 0x0C", "address: 0x1000C", "65548 is greater than the maximum"),
    ("address: 0x0C", "address: 0xFFFF", "reaches past the last register"),
    ("function: 4, address: 0x0C", "function: 3, address: 1", "overlaps energy_total"),
    ('scale: "0.01"', 'scale: "0"', "the scale must be above 0"),
    ('scale: "0.01"', "scale: .nan", "the scale must be above 0"),
    ('scale: "0.01"', 'scale: "1/100"', "is not a number in range"),
    ("  state:      {function: 1, address: 0, connected: 1}\n", "", "'state' is a required"),
    ("address: 0, connected: 1", "address: 0", "needs connected or disconnected"),
    ("address: 0, connected: 1", "address: 0, connected: 2", "bits that are not read"),
    ("address: 0, connected: 1", "address: 0, connected: 1, disconnected: 1", "are the same"),
    ("value: 0", "value: 2", "a coil is 0 or 1"),
    ("value: 0", "values: [0, 0]", "function 5 writes one value"),
    ("value: 0", "value: 0, values: [0]", "needs value or values, not both"),
    ("value: 0", "value: 1", "writes the same as disconnect"),
    ("5, address: 0, value: 0", "3, address: 0, value: 0", "3 is not one of [5, 6, 15, 16]"),
    ("type: u32}", "type: f32}", "12: identity.type"),
    ('rollover_kwh: "1000000"', "rollover_kwh: 0", "is not a number in range"),
    ('max_power_kw: "30"', 'max_power_kw: "0"', "must be above 0"),
    ('max_power_kw: "30"', "max_power: 30", "'max_power' was unexpected"),
    ("maker: example", "maker: a/b", "'a/b' does not match"),
    ("maker: example", "maker: example\nmaker: example", "2: maker: given twice"),
    (POINT, "  energy_total: &a {function: 3, address: 0}\n  b: *a", "an alias (*) is not allowed"),
    (POINT, "  energy: {function: 3, address: 0, type: u32}", "'energy_total' is a required"),
    ("function: 4, address: 0x0C", "function: 1, address: 9", "power_total.type: has no place"),
    ("maker: example", "maker: [", "not YAML"),
]


@pytest.mark.parametrize(("old", "new", "fault"), BAD, ids=[fault for _, _, fault in BAD])
def test_a_bad_profile_is_refused_with_its_place(
    tmp_path: Path, old: str, new: str, fault: str
) -> None:
    assert old in CONTRACT_MODBUS
    with pytest.raises(ProfileError) as error:
        parse(tmp_path, CONTRACT_MODBUS.replace(old, new, 1))
    assert fault in error.value.detail
    assert all(each.file == "profile.yaml" and each.line > 0 for each in error.value.faults)


BAD_DLT645 = [
    ('"00010000"', "00010000", "8 hex digits in quotes"),
    ('"00010000"', '"0001000"', "is not 8 hex digits"),
    ('"1A"', '"1C"', 'disconnecting is "1A"'),
    ('"1B"', '"1A"', 'reconnecting is "1B" or "1C"'),
    ('"1B"', '"1D"', "'1D' is not one of"),
    ("bytes: 4", "bytes: 9", "9 is greater than the maximum"),
    ("bytes: 4", "bytes: 4, offset: 193", "193 is greater than the maximum"),
    ("type: bcd, bytes: 4", "type: f32, bytes: 2", "this type has 4 bytes"),
    ("type: bcd, bytes: 4", "type: u32, signed: true", "only bcd has a sign bit"),
    ("protocol: dlt645", "protocol: dlt645\nblocks: {max_gap: 1}", "blocks: has no place here"),
]


@pytest.mark.parametrize(("old", "new", "fault"), BAD_DLT645)
def test_a_bad_dlt645_profile_is_refused(tmp_path: Path, old: str, new: str, fault: str) -> None:
    with pytest.raises(ProfileError) as error:
        parse(tmp_path, CONTRACT_DLT645.replace(old, new, 1))
    assert fault in error.value.detail


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\xff\xfe", "is not UTF-8"),
        (b"- a list", "a mapping of keys"),
        (b"", "a mapping of keys"),
        (b"a: " + b"[" * 5_000, "nested too deeply"),
        (b"#" * 70_000, "larger than"),
        (b"? {a: 1}\n: 2", "not YAML"),
    ],
    ids=["encoding", "list", "empty", "depth", "size", "key"],
)
def test_what_is_no_profile_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ProfileError) as error:
        load_profile(path)
    assert fault in error.value.detail


def test_the_operators_folder_adds_and_replaces(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "box.yml").write_text(CONTRACT_DLT645, "utf-8")
    changed = CONTRACT_MODBUS.replace('max_power_kw: "30"', "max_power_kw: 12.5")
    (tmp_path / "mine.yaml").write_text(changed, "utf-8")
    catalogue = load_catalogue(tmp_path)
    assert set(catalogue) == {*CATALOGUE, "acme/box"}
    assert catalogue["example/demo-relay"].limits.max_power_kw == Decimal("12.5")


def test_every_fault_of_every_file_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(CONTRACT_MODBUS.replace("u32", "u33"), "utf-8")
    (tmp_path / "b.yaml").write_text("nonsense: 1", "utf-8")
    (tmp_path / "c.yaml").write_text(CONTRACT_DLT645, "utf-8")
    (tmp_path / "d.yaml").write_text(CONTRACT_DLT645, "utf-8")
    with pytest.raises(ProfileError) as error:
        load_catalogue(tmp_path)
    lines = error.value.detail.splitlines()
    assert sum(line.startswith("a.yaml:") for line in lines) == 2
    assert sum(line.startswith("b.yaml:") for line in lines) >= 4
    assert "d.yaml:1: model: acme/box is also in c.yaml" in lines


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="is not a folder"):
        load_catalogue(tmp_path / "none")


def test_a_counters_own_size_is_its_rollover(tmp_path: Path) -> None:
    text = CONTRACT_MODBUS.replace(', rollover_kwh: "1000000"', "")
    assert parse(tmp_path, text).limits.rollover_wh == 2**32 * 10
    assert CATALOGUE["eastron/sdm630"].limits.rollover_wh == 10**15
