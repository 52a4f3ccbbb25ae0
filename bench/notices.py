"""Orders that wait at both platforms, and the platforms' notices of their payment, signed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.mall import write
from payments.contract import Platform
from payments.sandbox.alipay_wire import Wire
from payments.sandbox.books import Order, OrderState
from payments.sandbox.keys import SandboxKeys, ensure_keys
from payments.sandbox.signing import Signer
from payments.sandbox.wechat_wire import Seal, payment_notice
from server.models.database import pool, rows, to_json

FEN = 500
PATHS = {platform: f"/payments/{platform}/bench/notify" for platform in Platform}
MERCHANT = """
INSERT INTO merchant (site_id, platform, merchant_id, app_id, settings)
VALUES (1, $1, $2, $3, $4::jsonb)
"""
ORDERS = """
INSERT INTO top_up (id, no, site_id, tenancy_id, wallet, amount_fen, status, idempotency_key,
                    input_hash, created_at, expires_at, refunded_fen)
SELECT n, 'T' || n, 1, 1 + n % {shops}, 'electricity_wallet', {fen}, 'pending', 'bench ' || n, '',
       '{now}', '{now}'::timestamptz + interval '1 day', 0
FROM generate_series({first}, {last}) AS n;
INSERT INTO payment_order (id, top_up_id, site_id, platform, merchant_id, out_trade_no, method,
    state, created_at, query_at, queries)
SELECT n, n, 1, CASE n % 2 WHEN 0 THEN 'wechat' ELSE 'alipay' END,
       CASE n % 2 WHEN 0 THEN '{mchid}' ELSE '{seller_id}' END, 'BENCH' || lpad(n::text, 12, '0'),
       CASE n % 2 WHEN 0 THEN 'wechat_native' ELSE 'alipay_qr' END,
       'waiting', '{now}', 'infinity', 0
FROM generate_series({first}, {last}) AS n;
ANALYZE top_up, payment_order;
"""


class Payers:
    """Who orders in the mall of a database and pays at the platforms; numbered from 1."""

    def __init__(self, url: str, folder: Path, shops: int) -> None:
        self._url = url
        self._shops = shops
        self._ordered = 0
        self._keys = ensure_keys(folder / "keys")
        alipay = Signer("", self._keys.alipay_platform)
        self._wire = Wire(self._keys, lambda _: alipay)
        wechat = Signer(self._keys.platform_public_key_id, self._keys.wechat_platform)
        self._seal = Seal(self._keys.apiv3_key, wechat)

    async def sign_up(self) -> None:
        """The mall's merchants at both platforms."""
        keys = self._keys
        for platform, ids, settings in (
            (Platform.WECHAT, (keys.mchid, keys.appid), _wechat(keys)),
            (Platform.ALIPAY, (keys.alipay_seller_id, keys.alipay_app_id), _alipay(keys)),
        ):
            await rows(pool(), MERCHANT, platform.value, *ids, to_json(settings))

    async def pay(self, count: int) -> tuple[Sequence[str], list[bytes]]:
        """So many new orders, paid just now: their numbers, and the platforms' HTTP requests."""
        first, last = self._ordered + 1, self._ordered + count
        self._ordered = last
        now = datetime.now(UTC).replace(microsecond=0)
        names = {"mchid": self._keys.mchid, "seller_id": self._keys.alipay_seller_id}
        sql = ORDERS.format(
            first=first, last=last, shops=self._shops, fen=FEN, now=now.isoformat(), **names
        )
        await write(self._url, sql)
        numbers = [f"BENCH{n:012}" for n in range(first, last + 1)]
        requests = [
            self._wechat(number, now) if n % 2 == 0 else self._alipay(number, now)
            for n, number in enumerate(numbers, first)
        ]
        return numbers, requests

    def _wechat(self, number: str, now: datetime) -> bytes:
        payload = {
            "appid": self._keys.appid,
            "trade_type": "NATIVE",
            "openid": "",
            "notice_id": number,
        }
        order = _paid(Platform.WECHAT, self._keys.mchid, number, payload, now)
        posting = payment_notice(order, self._seal, now)
        return _request(Platform.WECHAT, posting.headers, posting.body)

    def _alipay(self, number: str, now: datetime) -> bytes:
        payload = {"subject": "电费充值", "trade_no": f"2026{number}", "notify_id": f"N{number}"}
        order = _paid(Platform.ALIPAY, self._keys.alipay_seller_id, number, payload, now)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return _request(Platform.ALIPAY, headers, self._wire.notice(order, now))


def _paid(
    platform: Platform, merchant_id: str, number: str, payload: dict[str, str], now: datetime
) -> Order:
    return Order(
        platform=platform,
        merchant_id=merchant_id,
        out_trade_no=number,
        amount_fen=FEN,
        notify_url=PATHS[platform],
        created_at=now,
        payload=payload,
        state=OrderState.PAID,
        transaction_id=f"42000{number}",
        paid_at=now,
    )


def _request(platform: Platform, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"POST {PATHS[platform]} HTTP/1.1", "Host: bench.example"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def _wechat(keys: SandboxKeys) -> dict[str, str]:
    return {
        "mchid": keys.mchid,
        "appid": keys.appid,
        "cert_serial": keys.cert_serial,
        "platform_public_key_id": keys.platform_public_key_id,
        "apiv3_key_file": str(keys.folder / "apiv3.txt"),
        "private_key_file": str(keys.folder / "wechat_merchant.pem"),
        "platform_public_key_file": str(keys.folder / "wechat_platform.pem"),
    }


def _alipay(keys: SandboxKeys) -> dict[str, str]:
    return {
        "app_id": keys.alipay_app_id,
        "seller_id": keys.alipay_seller_id,
        "private_key_file": str(keys.folder / "alipay_app.pem"),
        "alipay_public_key_file": str(keys.folder / "alipay_platform.pem"),
    }
