"""Alipay's certificate mode: who names its app's certificate is answered with Alipay's."""

from base64 import b64encode
from collections.abc import Mapping

from payments.sandbox.alipay_wire import Refusal, biz_content
from payments.sandbox.certificates import NAMES, alipay_sn
from payments.sandbox.signing import Signing


def first_sn(params: Mapping[str, str], signing: Signing) -> str:
    """The SN of Alipay's first certificate, for an app in certificate mode; else empty.

    That certificate is over the key of key mode, so an answer by that key names it.
    """
    if not _is_mode(params):
        return ""
    return alipay_sn(signing.certificates.alipay[NAMES[0]].certificate)


def check(params: Mapping[str, str], signing: Signing) -> None:
    """Raise the gateway's refusal unless the certificates are the app's and our root."""
    if not _is_mode(params):
        return
    own = signing.certificates
    if params.get("app_cert_sn") != alipay_sn(own.alipay_app):
        raise Refusal("40002", "isv.invalid-app-cert-sn", "应用公钥证书SN无效")
    if params.get("alipay_root_cert_sn") != alipay_sn(own.alipay_root):
        raise Refusal("40002", "isv.invalid-alipay-root-cert-sn", "支付宝根证书SN无效")


def download(params: Mapping[str, str], signing: Signing) -> dict[str, str]:
    """alipay.open.app.alipaycert.download: the certificate with an SN, base64 over its file."""
    asked = biz_content(params).get("alipay_cert_sn", "")
    for issued in signing.certificates.alipay.values():
        if alipay_sn(issued.certificate) == asked:
            return {"alipay_cert_content": b64encode(issued.pem).decode()}
    raise Refusal("40004", "isv.invalid-alipay-cert-sn", "支付宝公钥证书SN不存在")


def _is_mode(params: Mapping[str, str]) -> bool:
    return bool(params.get("app_cert_sn") or params.get("alipay_root_cert_sn"))
