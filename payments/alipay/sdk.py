"""The official SDK's request and model classes that are used here; nothing else of it."""

# ruff: noqa: PLC0415 - load_sdk imports late: 0.35 s that only a process with an order owes

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Classes = tuple[Callable[..., Any], Callable[[], Any]]


@dataclass(frozen=True, slots=True)
class Sdk:
    """For each call its request and its model."""

    wap_pay: Classes
    precreate: Classes
    query: Classes
    close: Classes
    refund: Classes
    refund_query: Classes
    bill_url: Classes
    certificate: Classes


def load_sdk() -> Sdk:
    """Import the SDK's classes: 0.35 s the first time, so never at start and never on the loop."""
    from alipay.aop.api.domain.AlipayDataDataserviceBillDownloadurlQueryModel import (
        AlipayDataDataserviceBillDownloadurlQueryModel,
    )
    from alipay.aop.api.domain.AlipayOpenAppAlipaycertDownloadModel import (
        AlipayOpenAppAlipaycertDownloadModel,
    )
    from alipay.aop.api.domain.AlipayTradeCloseModel import AlipayTradeCloseModel
    from alipay.aop.api.domain.AlipayTradeFastpayRefundQueryModel import (
        AlipayTradeFastpayRefundQueryModel,
    )
    from alipay.aop.api.domain.AlipayTradePrecreateModel import AlipayTradePrecreateModel
    from alipay.aop.api.domain.AlipayTradeQueryModel import AlipayTradeQueryModel
    from alipay.aop.api.domain.AlipayTradeRefundModel import AlipayTradeRefundModel
    from alipay.aop.api.domain.AlipayTradeWapPayModel import AlipayTradeWapPayModel
    from alipay.aop.api.request.AlipayDataDataserviceBillDownloadurlQueryRequest import (
        AlipayDataDataserviceBillDownloadurlQueryRequest,
    )
    from alipay.aop.api.request.AlipayOpenAppAlipaycertDownloadRequest import (
        AlipayOpenAppAlipaycertDownloadRequest,
    )
    from alipay.aop.api.request.AlipayTradeCloseRequest import AlipayTradeCloseRequest
    from alipay.aop.api.request.AlipayTradeFastpayRefundQueryRequest import (
        AlipayTradeFastpayRefundQueryRequest,
    )
    from alipay.aop.api.request.AlipayTradePrecreateRequest import AlipayTradePrecreateRequest
    from alipay.aop.api.request.AlipayTradeQueryRequest import AlipayTradeQueryRequest
    from alipay.aop.api.request.AlipayTradeRefundRequest import AlipayTradeRefundRequest
    from alipay.aop.api.request.AlipayTradeWapPayRequest import AlipayTradeWapPayRequest

    return Sdk(
        wap_pay=(AlipayTradeWapPayRequest, AlipayTradeWapPayModel),
        precreate=(AlipayTradePrecreateRequest, AlipayTradePrecreateModel),
        query=(AlipayTradeQueryRequest, AlipayTradeQueryModel),
        close=(AlipayTradeCloseRequest, AlipayTradeCloseModel),
        refund=(AlipayTradeRefundRequest, AlipayTradeRefundModel),
        refund_query=(AlipayTradeFastpayRefundQueryRequest, AlipayTradeFastpayRefundQueryModel),
        bill_url=(
            AlipayDataDataserviceBillDownloadurlQueryRequest,
            AlipayDataDataserviceBillDownloadurlQueryModel,
        ),
        certificate=(AlipayOpenAppAlipaycertDownloadRequest, AlipayOpenAppAlipaycertDownloadModel),
    )


def params_of(request: Any) -> dict[str, str]:
    """The parameters of a request of the SDK as text."""
    return {str(name): str(value) for name, value in request.get_params().items()}


def asked(classes: Classes, **fields: object) -> dict[str, str]:
    """The parameters of a request whose model has these fields, and no more."""
    make_request, make_model = classes
    model = make_model()
    for name, value in fields.items():
        setattr(model, name, value)
    return params_of(make_request(biz_model=model))
