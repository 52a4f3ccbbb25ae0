"""What tenants send. Unknown fields are refused, and so is any number that is not an integer."""

from typing import Annotated, Literal

import msgspec

from payments.contract import Method

# printable, so that nothing odd reaches WeChat or the database
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]


class LogIn(msgspec.Struct, forbid_unknown_fields=True):
    """The code from wx.login."""

    code: Text


class Bind(msgspec.Struct, forbid_unknown_fields=True):
    """The printed code's token, and the binding code that the mall handed over."""

    shop_token: Text
    binding_code: Text


class ChangeMethod(msgspec.Struct, forbid_unknown_fields=True):
    """How it is to be paid instead."""

    method: Method


class OrderTopUp(msgspec.Struct, forbid_unknown_fields=True):
    """How much, how, and for which wallet."""

    amount_fen: int
    method: Method
    wallet: Literal["electricity", "fixed_charges"] = "electricity"
