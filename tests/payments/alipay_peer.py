"""A gateway that answers, signed, as a test says and keeps what was asked; not the sandbox."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from payments.alipay.client import AlipayPlatform, build
from payments.alipay.config import AlipayMerchant
from tests.fakes.keys import rsa_key

Content = Mapping[str, object]


@dataclass(frozen=True)
class Asked:
    """One call: its method, what stood in the URL, what was posted as biz_content."""

    method: str
    query: Mapping[str, str]
    content: Mapping[str, object]


@dataclass
class AlipayPeer:
    """For each method the answers to give, in order, then the last one; None hangs up."""

    answers: dict[str, list[Content | bytes | None]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)  # whole HTTP answers to a GET, by path
    fetched: list[bytes] = field(default_factory=list)  # the heads of what was fetched
    asked: list[Asked] = field(default_factory=list)
    key: RSAPrivateKey = field(default_factory=lambda: rsa_key("platform"))
    beside: dict[str, str] = field(default_factory=dict)  # what stands next to each signature
    url: str = ""
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def wait_for(self, method: str, count: int = 1) -> None:
        """Until so many calls of a method came."""
        async with asyncio.timeout(5), self.arrived:
            await self.arrived.wait_for(lambda: self.methods().count(method) >= count)

    def says(self, method: str, *answers: Content | bytes | None) -> None:
        """What to answer from now on; bytes are a whole HTTP answer."""
        self.answers[method] = list(answers)

    def methods(self) -> list[str]:
        """What was asked, in order."""
        return [one.method for one in self.asked]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        verb, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        lengths = [
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ]
        body = await reader.readexactly(sum(lengths))
        if verb == "GET":
            self.fetched.append(head)
            reply = self.files.get(urlsplit(target).path)
        else:
            async with self.arrived:
                reply = self._answer(target, body)
                self.arrived.notify_all()
        if reply is not None:
            writer.write(reply)
            with contextlib.suppress(ConnectionError):  # the client may have had enough
                await writer.drain()
        writer.close()

    def _answer(self, target: str, body: bytes) -> bytes | None:
        query = dict(parse_qsl(urlsplit(target).query))
        content = json.loads(dict(parse_qsl(body.decode()))["biz_content"])
        self.asked.append(Asked(query["method"], query, content))
        script = self.answers[query["method"]]
        said = script.pop(0) if len(script) > 1 else script[0]
        if said is None or isinstance(said, bytes):
            return said
        return http(signed_answer(query["method"], said, self.key, **self.beside))


def signed_answer(method: str, content: Content, key: RSAPrivateKey, **beside: str) -> bytes:
    """The answer's body; `beside` stands next to the signature."""
    inner = json.dumps({"code": "10000", "msg": "Success"} | dict(content))
    signature = base64.b64encode(key.sign(inner.encode(), padding.PKCS1v15(), SHA256())).decode()
    others = "".join(f',"{name}":"{value}"' for name, value in beside.items())
    name = f"{method.replace('.', '_')}_response"
    return f'{{"{name}":{inner}{others},"sign":"{signature}"}}'.encode()


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def failed(sub_code: str, code: str = "40004") -> Content:
    """A refusal."""
    return {"code": code, "msg": "Business Failed", "sub_code": sub_code, "sub_msg": "…"}


def merchant() -> AlipayMerchant:
    """An app with the keys of tests."""
    return AlipayMerchant(
        app_id="2021000000000001",
        seller_id="2088000000000001",
        private_key_pem=private_pem(rsa_key("app")),
        alipay_public_key_pem=rsa_key("platform")
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )


def private_pem(key: RSAPrivateKey) -> str:
    """The key as a file has it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@asynccontextmanager
async def standing(peer: AlipayPeer) -> AsyncIterator[AlipayPeer]:
    """The peer on a port of its own."""
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    async with server:
        peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield peer


@asynccontextmanager
async def platform_at(
    peer: AlipayPeer, config: AlipayMerchant | None = None
) -> AsyncIterator[AlipayPlatform]:
    """Alipay as the product sees it, at a peer."""
    built = build(config or merchant(), f"{peer.url}/gateway.do")
    try:
        yield built
    finally:
        await built.aclose()
