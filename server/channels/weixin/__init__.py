"""The WeChat API of one mini-program: logins, subscribe messages, codes (README.md)."""
