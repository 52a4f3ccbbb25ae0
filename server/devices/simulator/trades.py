"""How much a shop of each trade draws through a day: data, drawn as pictures.

The figures are plausible for a Chinese mall, not measured: a flat floor that runs all night
(fridges, servers, emergency light) and a swing that follows the opening hours.
"""

from dataclasses import dataclass
from enum import StrEnum

HOURS = 24
FULL = 9


class Trade(StrEnum):
    """What a meter's customer does for a living."""

    BAKERY = "bakery"
    BANK = "bank"
    BOOKSHOP = "bookshop"
    CINEMA = "cinema"
    COFFEE = "coffee"
    COMMON_AREA = "common_area"
    CONVENIENCE = "convenience"
    FASHION = "fashion"
    GYM = "gym"
    HOTPOT = "hotpot"
    JEWELLERY = "jewellery"
    KARAOKE = "karaoke"
    KIDS_PLAY = "kids_play"
    OPTICIAN = "optician"
    PHARMACY = "pharmacy"
    PHONE_SHOP = "phone_shop"
    RESTAURANT = "restaurant"
    SALON = "salon"
    SEAFOOD = "seafood"
    SUPERMARKET = "supermarket"
    TEA_SHOP = "tea_shop"
    YOGA = "yoga"


@dataclass(frozen=True, slots=True)
class Curve:
    """A floor, a swing above it, and the swing's share at each hour: a digit an hour, 9 is full."""

    base_w: int
    swing_w: int
    workday: str
    weekend: str


#                                          hour: 0     6     12    18
#                                                |     |     |     |
CURVES: dict[Trade, Curve] = {
    Trade.BAKERY: Curve(1_500, 7_500, "000012789876655667765310", "000012899877766778876421"),
    Trade.BANK: Curve(2_200, 1_800, "000000014888878883111000", "000000013666676662111000"),
    Trade.BOOKSHOP: Curve(250, 4_000, "000000000377777788888710", "000000000488899999999810"),
    Trade.CINEMA: Curve(2_500, 19_500, "410000000257778778899986", "630000001378999999999998"),
    Trade.COFFEE: Curve(900, 4_600, "000000138999898876665310", "000000026899999987776420"),
    Trade.COMMON_AREA: Curve(2_500, 6_500, "000000137999999999999830", "000000137999999999999940"),
    Trade.CONVENIENCE: Curve(3_200, 2_200, "322222346665776667898765", "432222335676776678998776"),
    Trade.FASHION: Curve(300, 4_900, "000000000278888888999820", "000000000379999999999930"),
    Trade.GYM: Curve(900, 10_100, "000000465433543347999620", "000000245777666677876410"),
    Trade.HOTPOT: Curve(3_000, 15_000, "310000000013687434799864", "420000000024798656899986"),
    Trade.JEWELLERY: Curve(600, 5_400, "000000000289999999999820", "000000000289999999999930"),
    Trade.KARAOKE: Curve(800, 12_200, "973000000001234444689999", "996200000012466667899999"),
    Trade.KIDS_PLAY: Curve(400, 7_600, "000000000134344456776300", "000000000489999999998510"),
    Trade.OPTICIAN: Curve(200, 2_200, "000000000278888888998710", "000000000289999999999820"),
    Trade.PHARMACY: Curve(1_900, 2_300, "111111136888888888887421", "111111125888888888888421"),
    Trade.PHONE_SHOP: Curve(400, 3_400, "000000000288888888888710", "000000000299999999999820"),
    Trade.RESTAURANT: Curve(2_200, 11_800, "000000002348985336898510", "000000002359997447999721"),
    Trade.SALON: Curve(200, 5_800, "000000000156666667899820", "000000000278999999999930"),
    # Tanks, ice machines and cold rooms never rest: the floor is by far the larger part.
    Trade.SEAFOOD: Curve(16_000, 3_200, "000000012349985336899620", "000000012359997447999731"),
    Trade.SUPERMARKET: Curve(9_000, 14_000, "111111136788888888988521", "111111137899999999999631"),
    Trade.TEA_SHOP: Curve(1_200, 5_300, "000000000246888877888830", "000000000357999998999941"),
    Trade.YOGA: Curve(200, 4_300, "000000023444544345999510", "000000014777766666764200"),
}

# Cooling in summer, a little heating in winter: the swing's thousandths by month.
SEASON_PERMILLE = (1000, 960, 900, 880, 980, 1120, 1220, 1220, 1080, 900, 900, 980)
