"""Users of the mini-program, managers, kiosks, and what they may do."""

from tortoise import Model, fields
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index

from server.models.sites import Site, Tenancy
from server.models.table import Table


class AppUser(Model, metaclass=Table):
    """A person as one mini-program knows them."""

    id = fields.BigIntField(primary_key=True)
    app_id = fields.CharField(32)
    openid = fields.CharField(64)
    created_at = fields.DatetimeField()

    class Meta:
        app = "mallwatt"
        table = "app_user"
        unique_together = (("app_id", "openid"),)


class UserSession(Model, metaclass=Table):
    """A bearer token, hashed."""

    token_hash = fields.CharField(64, primary_key=True)
    user: fields.ForeignKeyRelation[AppUser] = fields.ForeignKeyField(
        "mallwatt.AppUser", related_name=False, on_delete=OnDelete.CASCADE
    )
    expires_at = fields.DatetimeField()

    class Meta:
        app = "mallwatt"
        table = "user_session"


class Binding(Model, metaclass=Table):
    """A user's access to a tenancy, until it ends."""

    id = fields.BigIntField(primary_key=True)
    user: fields.ForeignKeyRelation[AppUser] = fields.ForeignKeyField(
        "mallwatt.AppUser", related_name=False, on_delete=OnDelete.CASCADE
    )
    tenancy: fields.ForeignKeyRelation[Tenancy] = fields.ForeignKeyField(
        "mallwatt.Tenancy", related_name=False, on_delete=OnDelete.CASCADE
    )
    bound_at = fields.DatetimeField()
    ended_at = fields.DatetimeField(null=True)

    class Meta:
        app = "mallwatt"
        table = "binding"
        indexes = (Index(fields=("tenancy_id",), name="idx_binding_tenancy"),)


class GuessCounter(Model, metaclass=Table):
    """Wrong guesses of a secret by subject; in PostgreSQL, for Redis may be wiped."""

    id = fields.BigIntField(primary_key=True)
    scope = fields.CharField(32)
    subject = fields.CharField(128)
    failures = fields.IntField()
    window_ends_at = fields.DatetimeField()
    blocked_until = fields.DatetimeField(null=True)

    class Meta:
        app = "mallwatt"
        table = "guess_counter"
        unique_together = (("scope", "subject"),)


class MessageConsent(Model, metaclass=Table):
    """How many subscribe messages of a template a user still lets us send."""

    id = fields.BigIntField(primary_key=True)
    user: fields.ForeignKeyRelation[AppUser] = fields.ForeignKeyField(
        "mallwatt.AppUser", related_name=False, on_delete=OnDelete.CASCADE
    )
    template_id = fields.CharField(64)
    count = fields.IntField()

    class Meta:
        app = "mallwatt"
        table = "message_consent"
        unique_together = (("user", "template_id"),)


class Manager(Model, metaclass=Table):
    """A person of the mall; no site: all sites."""

    id = fields.BigIntField(primary_key=True)
    name = fields.CharField(64, unique=True)
    password_hash = fields.CharField(200)
    role = fields.CharField(16)
    site: fields.ForeignKeyNullableRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )
    created_at = fields.DatetimeField()

    class Meta:
        app = "mallwatt"
        table = "manager"


class ManagerSession(Model, metaclass=Table):
    """A manager's bearer token or page cookie, hashed."""

    token_hash = fields.CharField(64, primary_key=True)
    manager: fields.ForeignKeyRelation[Manager] = fields.ForeignKeyField(
        "mallwatt.Manager", related_name=False, on_delete=OnDelete.CASCADE
    )
    expires_at = fields.DatetimeField()

    class Meta:
        app = "mallwatt"
        table = "manager_session"


class ManagerAct(Model, metaclass=Table):
    """The audit log: one row an act of a manager, in the act's own transaction."""

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyNullableRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )
    actor = fields.CharField(64)
    act = fields.CharField(48)
    subject = fields.CharField(128)
    reason = fields.CharField(500)
    facts: fields.Field[dict[str, object]] = fields.JSONField()
    at = fields.DatetimeField()

    class Meta:
        app = "mallwatt"
        table = "manager_act"


class ActToken(Model, metaclass=Table):
    """A one-use token of a dangerous page: the POST must come within 60 s, on unchanged facts."""

    token_hash = fields.CharField(64, primary_key=True)
    manager: fields.ForeignKeyRelation[Manager] = fields.ForeignKeyField(
        "mallwatt.Manager", related_name=False, on_delete=OnDelete.CASCADE
    )
    act = fields.CharField(48)
    facts_hash = fields.CharField(64)
    expires_at = fields.DatetimeField()

    class Meta:
        app = "mallwatt"
        table = "act_token"


class Kiosk(Model, metaclass=Table):
    """A kiosk that a manager enrolled; its cookie's token, hashed."""

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    name = fields.CharField(64)
    token_hash = fields.CharField(64, unique=True)
    enrolled_at = fields.DatetimeField()
    enrolled_by = fields.CharField(64)

    class Meta:
        app = "mallwatt"
        table = "kiosk"


class Approval(Model, metaclass=Table):
    """An act that waits for a second person; `act` holds what will be done, whole."""

    no = fields.CharField(32, primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    kind = fields.CharField(32)
    tenancy: fields.ForeignKeyNullableRelation[Tenancy] = fields.ForeignKeyField(
        "mallwatt.Tenancy", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )
    act: fields.Field[dict[str, object]] = fields.JSONField()
    asked_by: fields.ForeignKeyRelation[Manager] = fields.ForeignKeyField(
        "mallwatt.Manager", related_name=False, on_delete=OnDelete.RESTRICT
    )
    asked_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()
    decided_by: fields.ForeignKeyNullableRelation[Manager] = fields.ForeignKeyField(
        "mallwatt.Manager", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )
    decided_at = fields.DatetimeField(null=True)
    decision = fields.CharField(16, null=True)
    decision_reason = fields.CharField(200, null=True)

    class Meta:
        app = "mallwatt"
        table = "approval"
        indexes = (Index(fields=("site_id", "decided_at"), name="idx_approval_open"),)
