"""A manager's wish for a shop's supply: asked for the same way by the API and by the pages."""

from server.core.supply.control_state import ControlState
from server.http.context import WebContext
from server.services.admin_views import MeterLine, ShopLine
from server.services.supply_holds import hold_shop, release_shop
from server.services.wakeups import gateway_topic, tenancy_topic


async def ask_for(
    context: WebContext, shop: ShopLine, state: ControlState, actor: str, reason: str
) -> None:
    """Hold or release every relay of the shop, and wake who drives and who shows them."""
    act = hold_shop if state is ControlState.DISCONNECTED else release_shop
    gateways = await act(shop.site_id, shop.code, actor=actor, reason=reason, now=context.clock())
    topics = [gateway_topic(gateway_id) for gateway_id in gateways]
    if shop.tenancy_id is not None:
        topics.append(tenancy_topic(shop.tenancy_id))
    await context.wakeups.tell(*topics)


def facts_of(
    shop: ShopLine, meters: list[MeterLine], wallet_fen: int, state: ControlState
) -> dict[str, object]:
    """What a person decides on; a change of any of it between look and act refuses the act."""
    return {
        "shop": shop.shop_id,
        "tenancy": shop.tenancy_id,
        "state": state.value,
        "wallet_fen": wallet_fen,
        "meters": [
            [meter.code, meter.confirmed, meter.hold_reason, meter.case_code]
            for meter in meters
            if meter.has_relay
        ],
    }
