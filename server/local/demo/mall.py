"""示范商场: 24 shops and 30 meters on three gateways, made up for the demo."""

from server.devices.simulator.load import Load
from server.devices.simulator.trades import Trade
from server.local.demo.blueprint import (
    FixedCharge,
    Gateway,
    Mall,
    Meter,
    Shop,
    SupplyPolicy,
    Tariff,
)

WORKING_LIMITS = ("20:00-09:00", "weekend", "holiday")

TARIFFS = (
    Tariff(
        code="commercial",
        prices={"sharp": "1.2345", "peak": "1.0288", "flat": "0.6172", "valley": "0.2891"},
        hours={
            "valley": ((0, 8),),
            "flat": ((8, 10), (12, 18), (22, 24)),
            "peak": ((10, 12),),
            "sharp": ((18, 22),),
        },
    ),
    Tariff(code="flat", prices={"flat": "0.6883"}, hours={}),
)

FIXED_CHARGES = (
    FixedCharge(code="service", per="month", basis="m2", price="3.50"),
    FixedCharge(code="transformer", per="month", basis="kva", price="12.00"),
    FixedCharge(code="cleaning", per="day", basis="shop", price="8.00"),
)

POLICIES = (
    SupplyPolicy(code="standard", notice_minutes=(4_320, 30), no_disconnect=WORKING_LIMITS),
    SupplyPolicy(code="immediate", notice_minutes=(), no_disconnect=()),
    SupplyPolicy(
        code="confirm",
        notice_minutes=(4_320, 30),
        no_disconnect=WORKING_LIMITS,
        reconnect="confirm",
    ),
)

GATEWAYS = (
    Gateway(code="gw-01", link="modbus-tcp"),
    Gateway(code="gw-02", link="rtu-over-tcp", baud=9_600, serial_format="8N1", turnaround_ms=20),
    Gateway(
        code="gw-03",
        link="dtu",
        baud=9_600,
        serial_format="8E1",
        turnaround_ms=20,
        registration="DTU000003",
        heartbeat="HB",
        allow_from=("127.0.0.0/8",),
    ),
)

SHOPS = (
    Shop(
        "A101",
        "沐茶鲜果茶",
        Trade.TEA_SHOP,
        "36.5",
        "20",
        "482913",
        fixed_charges=("service", "cleaning"),
    ),
    Shop("A102", "半拍咖啡", Trade.COFFEE, "58", "20", "305817", days_left=6),
    Shop("A103", "麦香烘焙坊", Trade.BAKERY, "72", "30", "716042", days_left=14),
    Shop("A104", "讯联手机", Trade.PHONE_SHOP, "64", "15", "928354", days_left=1),
    Shop("A105", "瑞福珠宝", Trade.JEWELLERY, "88", "20", "150467", days_left=20),
    Shop("A106", "素白女装", Trade.FASHION, "142", "20", "639208"),
    Shop("A107", "康宁大药房", Trade.PHARMACY, "110", "15", "274981", days_left=16),
    Shop("A108", "明眸眼镜", Trade.OPTICIAN, "52", "10", "861735", days_left=11),
    Shop(
        "A109",
        "市民银行自助厅",
        Trade.BANK,
        "45",
        "15",
        "503926",
        tariff="flat",
        supply_protection=True,
        days_left=25,
    ),
    Shop("A110", "邻里便利店", Trade.CONVENIENCE, "60", "20", "947160", days_left=5),
    Shop(
        "A111",
        "海晏海鲜酒楼",
        Trade.SEAFOOD,
        "420",
        "63",
        "618274",
        supply_policy="immediate",
        days_left=0,
    ),
    Shop("B201", "川味人家", Trade.RESTAURANT, "180", "50", "392605", days_left=7),
    Shop("B202", "渝巷老火锅", Trade.HOTPOT, "260", "63", "784519", days_left=4),
    Shop("B203", "剪艺美发", Trade.SALON, "96", "20", "207348", tariff="flat"),
    Shop("B204", "蹦蹦儿童乐园", Trade.KIDS_PLAY, "350", "30", "551892", days_left=13),
    Shop("B205", "力动健身", Trade.GYM, "620", "50", "836027", days_left=10),
    Shop("B206", "知行书店", Trade.BOOKSHOP, "230", "20", "469715", tariff="flat", days_left=18),
    Shop("B207", "山野户外", Trade.FASHION, "125", "20", "098463", days_left=8),
    Shop(
        "C301",
        "星幕影城",
        Trade.CINEMA,
        "1850",
        "100",
        "725138",
        days_left=12,
        fixed_charges=("service", "transformer"),
        fixed_paid_fen=1_000_000,
    ),
    Shop("C302", "万家鲜超市", Trade.SUPERMARKET, "980", "100", "340691", days_left=6),
    Shop("C303", "和风料理", Trade.RESTAURANT, "150", "40", "613857", days_left=3),
    Shop("C304", "一盏茶馆", Trade.TEA_SHOP, "120", "20", "982470", supply_policy="confirm"),
    Shop("C305", "夜莺歌房", Trade.KARAOKE, "310", "40", "157306", days_left=5),
    Shop("C306", "静心瑜伽", Trade.YOGA, "160", "15", "429583", days_left=15),
)

_KWH = 1_000


def _on_tcp(unit: int, start_kwh: int, trade: Trade, scale: int = 1_000) -> Meter:
    """A shop's meter on gw-01: the profile of the public contract's example."""
    shop = f"A1{unit:02d}"
    return Meter(
        code=f"M-{shop}",
        gateway="gw-01",
        profile="example/demo-relay",
        place=unit,
        start_wh=start_kwh * _KWH,
        loads=(Load(trade, 1_000 + unit, scale),),
        shop=shop,
        identity=0x20260000 + unit,
    )


def _on_rtu(unit: int, code: str, start_kwh: int, load: Load, **kind: str) -> Meter:
    """A meter on gw-02: a real model, the older Acrel DDSY1352."""
    return Meter(
        code=code,
        gateway="gw-02",
        profile="acrel/ddsy1352-older",
        place=unit,
        start_wh=start_kwh * _KWH,
        loads=(load,),
        shop=kind.get("shop"),
        role="shop" if "shop" in kind else "common_area",
    )


def _on_dtu(
    number: int, code: str, start_kwh: int, load: Load, shop: str | None, ratio: int = 1
) -> Meter:
    """A meter on gw-03: DL/T 645-2007, its address as printed on it."""
    return Meter(
        code=code,
        gateway="gw-03",
        profile="standard/dlt645-2007-relay",
        place=f"2026052400{number:02d}",
        start_wh=start_kwh * _KWH,
        loads=(load,),
        shop=shop,
        role="shop" if shop is not None else "common_area",
        ratio=ratio,
    )


_TCP_METERS = (
    _on_tcp(1, 18_234, Trade.TEA_SHOP),
    _on_tcp(2, 22_907, Trade.COFFEE),
    _on_tcp(3, 41_552, Trade.BAKERY),
    _on_tcp(4, 9_318, Trade.PHONE_SHOP),
    _on_tcp(5, 30_041, Trade.JEWELLERY),
    _on_tcp(6, 12_760, Trade.FASHION, 1_300),
    _on_tcp(7, 27_485, Trade.PHARMACY),
    _on_tcp(8, 6_119, Trade.OPTICIAN),
    _on_tcp(9, 24_873, Trade.BANK),
    _on_tcp(10, 38_206, Trade.CONVENIENCE),
    _on_tcp(11, 156_390, Trade.SEAFOOD),
)

METERS = (
    *_TCP_METERS,
    Meter(
        code="M-F01",
        gateway="gw-01",
        profile="example/demo-relay",
        place=12,
        start_wh=21_470 * _KWH,
        role="feeder",
        ratio=20,
        identity=0x2026000C,
        feeds=tuple(meter.code for meter in _TCP_METERS),
        loss_permille=15,
    ),
    _on_rtu(1, "M-B201-1", 52_408, Load(Trade.RESTAURANT, 2_011, 700), shop="B201"),
    _on_rtu(2, "M-B201-2", 20_117, Load(Trade.RESTAURANT, 2_012, 300), shop="B201"),
    _on_rtu(3, "M-B202-1", 61_940, Load(Trade.HOTPOT, 2_021, 600), shop="B202"),
    _on_rtu(4, "M-B202-2", 39_662, Load(Trade.HOTPOT, 2_022, 400), shop="B202"),
    _on_rtu(5, "M-B203", 15_823, Load(Trade.SALON, 2_030), shop="B203"),
    _on_rtu(6, "M-B204", 11_296, Load(Trade.KIDS_PLAY, 2_040), shop="B204"),
    _on_rtu(7, "M-B205", 47_051, Load(Trade.GYM, 2_050), shop="B205"),
    _on_rtu(8, "M-B206", 13_577, Load(Trade.BOOKSHOP, 2_060), shop="B206"),
    _on_rtu(9, "M-B207", 10_384, Load(Trade.FASHION, 2_070), shop="B207"),
    _on_rtu(10, "M-P02", 70_225, Load(Trade.COMMON_AREA, 2_100)),
    _on_dtu(1, "M-C301-1", 8_431, Load(Trade.CINEMA, 3_011, 650), "C301", ratio=20),
    _on_dtu(2, "M-C301-2", 5_206, Load(Trade.CINEMA, 3_012, 350), "C301", ratio=20),
    _on_dtu(3, "M-C302", 14_872, Load(Trade.SUPERMARKET, 3_020), "C302", ratio=10),
    _on_dtu(4, "M-C303", 48_015, Load(Trade.RESTAURANT, 3_030, 800), "C303"),
    _on_dtu(5, "M-C304", 16_349, Load(Trade.TEA_SHOP, 3_040, 700), "C304"),
    _on_dtu(6, "M-C305", 33_790, Load(Trade.KARAOKE, 3_050), "C305"),
    _on_dtu(7, "M-C306", 7_962, Load(Trade.YOGA, 3_060), "C306"),
    _on_dtu(8, "M-P03", 58_128, Load(Trade.COMMON_AREA, 3_100, 1_200), None),
)

DEMO = Mall(
    code="demo",
    name="示范商场",
    timezone="Asia/Shanghai",
    poll_seconds=15,
    close_after_days=3,
    tariffs=TARIFFS,
    fixed_charges=FIXED_CHARGES,
    policies=POLICIES,
    gateways=GATEWAYS,
    shops=SHOPS,
    meters=METERS,
    nearly_empty_shop="A111",
)
