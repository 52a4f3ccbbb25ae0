"""Orders that the merchant never made."""

import secrets

from payments.contract import Platform
from payments.sandbox.books import Order
from payments.sandbox.state import Sandbox


def strange_order(
    sandbox: Sandbox, platform: Platform, out_trade_no: str, fen: int, notify_url: str
) -> Order:
    """One that looks like the merchant's own, not kept yet."""
    keys, now = sandbox.keys, sandbox.now()
    payloads: dict[Platform, dict[str, object]] = {
        Platform.WECHAT: {
            "appid": keys.appid,
            "trade_type": "NATIVE",
            "description": "未知订单",
            "prepay_id": f"wx{secrets.token_hex(18)}",
        },
        Platform.ALIPAY: {
            "subject": "未知订单",
            "return_url": "",
            "time_expire": "",
            "trade_no": f"{now:%Y%m%d}22001{secrets.randbelow(10**15):015d}",
            "notify_id": f"{now:%Y%m%d}{secrets.randbelow(10**26):026d}",
            "opened": True,
        },
    }
    return Order(
        platform=platform,
        merchant_id=keys.mchid if platform is Platform.WECHAT else keys.alipay_seller_id,
        out_trade_no=out_trade_no,
        amount_fen=fen,
        notify_url=notify_url,
        created_at=now,
        payload=payloads[platform],
    )
