"""Notices to tenants, the outbox that carries them, and the jobs that must not be lost."""

from tortoise import Model, fields
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index

from server.models.sites import Site, Tenancy
from server.models.table import Table


class Notice(Model, metaclass=Table):
    """Something a tenancy is told, once a `dedup_key`; delivered by proof only (decision 9)."""

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    tenancy: fields.ForeignKeyRelation[Tenancy] = fields.ForeignKeyField(
        "mallwatt.Tenancy", related_name=False, on_delete=OnDelete.RESTRICT
    )
    kind = fields.CharField(32)
    level = fields.IntField()
    dedup_key = fields.CharField(100)
    facts: fields.Field[dict[str, object]] = fields.JSONField()
    created_at = fields.DatetimeField()
    delivered_at = fields.DatetimeField(null=True)
    opened_at = fields.DatetimeField(null=True)

    class Meta:
        app = "mallwatt"
        table = "notice"
        unique_together = (("tenancy", "dedup_key"),)


class OutboxMessage(Model, metaclass=Table):
    """One message of a notice on one channel; `in_doubt`: a kill fell between send and commit."""

    id = fields.BigIntField(primary_key=True)
    notice: fields.ForeignKeyRelation[Notice] = fields.ForeignKeyField(
        "mallwatt.Notice", related_name=False, on_delete=OnDelete.RESTRICT
    )
    channel = fields.CharField(16)
    address = fields.CharField(64)
    template_id = fields.CharField(64)
    fields_json: fields.Field[dict[str, str]] = fields.JSONField()
    state = fields.CharField(16)
    attempts = fields.IntField(default=0)
    try_at = fields.DatetimeField()
    claimed_until = fields.DatetimeField(null=True)
    channel_id = fields.CharField(64, null=True)
    sent_at = fields.DatetimeField(null=True)
    in_doubt = fields.BooleanField(default=False)
    error = fields.CharField(200, null=True)

    class Meta:
        app = "mallwatt"
        table = "outbox_message"
        unique_together = (("notice", "channel", "address"),)
        indexes = (Index(fields=("state", "try_at"), name="idx_outbox_due"),)


class JobRun(Model, metaclass=Table):
    """One slot of a timed job; an expired unfinished claim is taken again (decision 14)."""

    id = fields.BigIntField(primary_key=True)
    job = fields.CharField(48)
    slot = fields.CharField(48)
    claimed_until = fields.DatetimeField()
    finished_at = fields.DatetimeField(null=True)

    class Meta:
        app = "mallwatt"
        table = "job_run"
        unique_together = (("job", "slot"),)
