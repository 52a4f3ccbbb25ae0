"""WeChat's login in memory: a code is good once, and `ann-1` is a code of the person ann."""

from server.channels.contract import ChannelError


class FakeLogin:
    """Codes that begin with `bad` are wrong, and nobody answers while it is `down`."""

    app_id = "wx-test"

    def __init__(self) -> None:
        self.down = False
        self.used: set[str] = set()

    async def openid(self, code: str) -> str:
        """The openid of the person whose code it is."""
        if self.down:
            raise ChannelError("no answer", transient=True)
        if code.startswith("bad") or code in self.used:
            raise ChannelError("invalid code", code="40029")
        self.used.add(code)
        return f"openid-{code.partition('-')[0]}"
