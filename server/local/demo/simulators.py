"""The configurations of the demo's simulator processes, one a gateway."""

from collections.abc import Mapping
from dataclasses import dataclass

from server.local.demo.blueprint import Gateway, Mall, Meter

ANY_PORT = "127.0.0.1:0"
REDIAL_SECONDS = 2  # a real DTU may pause longer; the demo's is back soon after a collector is


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorPlaces:
    """Where the simulated gateways listen or dial, and where they keep their meters."""

    addresses: Mapping[str, str]  # gateway -> host:port: to listen on, or (a DTU) to dial
    state_folders: Mapping[str, str]


def simulator_configs(
    mall: Mall, registers_wh: Mapping[str, int], places: SimulatorPlaces
) -> dict[str, dict[str, object]]:
    """Per gateway the JSON document for `python -m server.devices.simulator`."""
    return {
        gateway.code: {
            "timezone": mall.timezone,
            "state": places.state_folders[gateway.code],
            "control": ANY_PORT,
            "gateways": [
                _gateway(gateway, places.addresses[gateway.code])
                | {
                    "meters": [
                        _meter(meter, registers_wh[meter.code])
                        for meter in mall.meters
                        if meter.gateway == gateway.code
                    ]
                }
            ],
        }
        for gateway in mall.gateways
    }


def _gateway(gateway: Gateway, address: str) -> dict[str, object]:
    fields: dict[str, object] = {
        "code": gateway.code,
        "mode": gateway.link,
        "dial" if gateway.link == "dtu" else "listen": address,
    }
    optional = {
        "baud": gateway.baud,
        "serial_format": gateway.serial_format,
        "turnaround_ms": gateway.turnaround_ms,
        "registration": gateway.registration,
        "heartbeat": gateway.heartbeat,
        "redial_seconds": REDIAL_SECONDS if gateway.link == "dtu" else None,
    }
    return fields | {key: value for key, value in optional.items() if value is not None}


def _meter(meter: Meter, register_wh: int) -> dict[str, object]:
    return {
        "code": meter.code,
        "profile": meter.profile,
        "unit" if isinstance(meter.place, int) else "address": meter.place,
        "start_wh": register_wh,
        "ratio": meter.ratio,
        "identity": meter.identity,
        "loads": [
            {"trade": load.trade.value, "seed": load.seed, "scale": load.scale}
            for load in meter.loads
        ],
        "feeds": list(meter.feeds),
        "loss_permille": meter.loss_permille,
    }
