"""Alipay: trades by the open platform's gateway, RSA2 only (README.md)."""
