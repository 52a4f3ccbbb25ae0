"""What every model is made by."""

from tortoise.models import ModelMeta


class Table(ModelMeta):
    """Leaves the source unread: Tortoise would parse it for `#:` comments, once a model.

    Every process would wait 0.08 s for that.
    """

    @classmethod
    def __prepare__(cls, name: str, bases: tuple[type, ...], /, **_: object) -> dict[str, object]:
        """The names that a model's body begins with."""
        return {"_no_comments": True}
