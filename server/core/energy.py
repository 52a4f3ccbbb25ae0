"""Integer energy: watt-hours everywhere."""

WH_PER_KWH = 1_000


def kwh_text(energy_wh: int) -> str:
    """Watt-hours as kWh with three decimals: 1234 is "1.234"."""
    sign = "-" if energy_wh < 0 else ""
    return f"{sign}{abs(energy_wh) // WH_PER_KWH}.{abs(energy_wh) % WH_PER_KWH:03d}"
