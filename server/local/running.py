"""Where the embedded servers of a running `mallwatt run` answer: other commands look here."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from server.settings import Settings

FILE = "running.json"


@dataclass(frozen=True, slots=True)
class RunningUrls:
    """The URLs, with their passwords: the file is for its owner alone."""

    pid: int
    database_url: str
    redis_url: str | None
    wechat_pay_url: str | None = None  # where the demo's sandbox platforms are
    alipay_gateway_url: str | None = None

    def applied_to(self, settings: Settings) -> Settings:
        """Settings that reach the running product."""
        return replace(
            settings,
            database_url=self.database_url,
            redis_url=settings.redis_url or self.redis_url,
            wechat_pay_url=self.wechat_pay_url or settings.wechat_pay_url,
            alipay_gateway_url=self.alipay_gateway_url or settings.alipay_gateway_url,
        )


def write_running(data_dir: Path, urls: RunningUrls) -> None:
    """Leave the URLs for other commands."""
    path = data_dir / FILE
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(urls))


def forget_running(data_dir: Path) -> None:
    """Take the URLs away at the end."""
    (data_dir / FILE).unlink(missing_ok=True)


def running_urls(data_dir: Path) -> RunningUrls | None:
    """The URLs of the product that runs on this data folder, if one does."""
    try:
        urls = msgspec.json.decode((data_dir / FILE).read_bytes(), type=RunningUrls)
        os.kill(urls.pid, 0)
    except (FileNotFoundError, ProcessLookupError, msgspec.DecodeError):
        return None
    except PermissionError:  # it runs, under another account
        return urls
    return urls
