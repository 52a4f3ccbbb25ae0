"""What meters said, what they should do, and what is being asked of them.

The readings themselves are a partitioned table, made in a migration.
"""

from tortoise import Model, fields
from tortoise.contrib.postgres.fields import ArrayField
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index

from server.models.sites import Gateway, Meter, Shop, Site, Tenancy
from server.models.table import Table


class MeterStatus(Model, metaclass=Table):
    """A meter's newest trusted reading and its health; a projection, harmless to recompute."""

    meter: fields.OneToOneRelation[Meter] = fields.OneToOneField(
        "mallwatt.Meter", related_name=False, primary_key=True, on_delete=OnDelete.CASCADE
    )
    read_at = fields.DatetimeField(null=True)
    register_wh = fields.BigIntField(null=True)
    points: fields.Field[dict[str, object]] = fields.JSONField()
    tried_at = fields.DatetimeField(null=True)
    finding = fields.CharField(200, null=True)

    class Meta:
        app = "mallwatt"
        table = "meter_status"


class MeterControl(Model, metaclass=Table):
    """Desired, commanded and confirmed are different things; only a read-back confirms.

    core/supply/state.MeterControl column by column (its `hold` is `hold_reason` being there), with
    when the collector is to look again, and how often and until when the policy's wish stands.
    """

    meter: fields.OneToOneRelation[Meter] = fields.OneToOneField(
        "mallwatt.Meter", related_name=False, primary_key=True, on_delete=OnDelete.CASCADE
    )
    policy_state = fields.CharField(32)
    hold_reason = fields.CharField(200, null=True)
    hold_by = fields.CharField(64, null=True)
    held_at = fields.DatetimeField(null=True)
    commanded = fields.CharField(32, null=True)
    commanded_at = fields.DatetimeField(null=True)
    confirmed = fields.CharField(32, null=True)
    confirmed_at = fields.DatetimeField(null=True)
    answered_writes = fields.IntField(default=0)
    unanswered_writes = fields.IntField(default=0)
    disconnected_by_us = fields.BooleanField(default=False)
    case_code = fields.CharField(32, null=True)
    retry_at = fields.DatetimeField(null=True)
    read_back_at = fields.DatetimeField(null=True)
    reconnected_at = fields.DatetimeField(null=True)
    permit_only = fields.BooleanField(default=False)
    permitted = fields.BooleanField(default=False)
    next_action_at = fields.DatetimeField(null=True)

    class Meta:
        app = "mallwatt"
        table = "meter_control"
        indexes = (Index(fields=("next_action_at",), name="idx_meter_control_next"),)


class OpenDay(Model, metaclass=Table):
    """The projection of one tenancy's day that is not on a statement yet (decision 5).

    `cells_wh` are its energies by cell of the day's grid, as the rules of `rules_version` cut it;
    `meter_ids`, `read_ats` and `registers_wh` are the readings from which it goes on, if it may.
    """

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    tenancy: fields.ForeignKeyRelation[Tenancy] = fields.ForeignKeyField(
        "mallwatt.Tenancy", related_name=False, on_delete=OnDelete.RESTRICT
    )
    day = fields.DateField()
    energy_wh = fields.BigIntField()
    amount_fen = fields.BigIntField()
    estimated = fields.BooleanField()
    complete = fields.BooleanField()
    has_later_reading = fields.BooleanField()
    rules_version = fields.BigIntField()
    block_start_wh = fields.BigIntField()
    cells_wh = ArrayField("bigint")
    meter_ids = ArrayField("bigint")
    read_ats = ArrayField("timestamptz")
    registers_wh = ArrayField("bigint")
    computed_at = fields.DatetimeField()

    class Meta:
        app = "mallwatt"
        table = "open_day"
        unique_together = (("tenancy", "day"),)


class SettlementDue(Model, metaclass=Table):
    """A tenancy whose open days are to be projected again, from `first_day` on, at `try_at`.

    `first_day` infinity: no day changed but by readings behind the newest (services/open_days).
    One that cannot be settled or closed stays here, put off further with each of its `failures`.
    """

    tenancy: fields.OneToOneRelation[Tenancy] = fields.OneToOneField(
        "mallwatt.Tenancy", related_name=False, primary_key=True, on_delete=OnDelete.CASCADE
    )
    first_day = fields.DateField()
    try_at = fields.DatetimeField()
    failures = fields.IntField(default=0)

    class Meta:
        app = "mallwatt"
        table = "settlement_due"
        indexes = (Index(fields=("try_at", "tenancy_id"), name="idx_settlement_due_try"),)


class CorrectionDue(Model, metaclass=Table):
    """A tenancy whose closed days are to be rated anew from `first_day` on, at `try_at`."""

    tenancy: fields.OneToOneRelation[Tenancy] = fields.OneToOneField(
        "mallwatt.Tenancy", related_name=False, primary_key=True, on_delete=OnDelete.CASCADE
    )
    first_day = fields.DateField()
    try_at = fields.DatetimeField()
    failures = fields.IntField(default=0)

    class Meta:
        app = "mallwatt"
        table = "correction_due"
        indexes = (Index(fields=("try_at", "tenancy_id"), name="idx_correction_due_try"),)


class MeterExchange(Model, metaclass=Table):
    """A device replaced under the same code: what the old one showed last, and the new one first.

    Ratio and rollover are the old device's; the new one's are the meter's own.
    """

    id = fields.BigIntField(primary_key=True)
    meter: fields.ForeignKeyRelation[Meter] = fields.ForeignKeyField(
        "mallwatt.Meter", related_name=False, on_delete=OnDelete.RESTRICT
    )
    exchanged_at = fields.DatetimeField()
    final_wh = fields.BigIntField()
    first_wh = fields.BigIntField()
    transformer_ratio = fields.IntField()
    rollover_wh = fields.BigIntField()
    reason = fields.CharField(200)
    made_by = fields.CharField(64)
    created_at = fields.DatetimeField()

    class Meta:
        app = "mallwatt"
        table = "meter_exchange"
        unique_together = (("meter", "exchanged_at"),)


class MeterInstallation(Model, metaclass=Table):
    """The time in which a meter measures a shop; `removed_at` is null while it does."""

    id = fields.BigIntField(primary_key=True)
    meter: fields.ForeignKeyRelation[Meter] = fields.ForeignKeyField(
        "mallwatt.Meter", related_name=False, on_delete=OnDelete.RESTRICT
    )
    shop: fields.ForeignKeyRelation[Shop] = fields.ForeignKeyField(
        "mallwatt.Shop", related_name=False, on_delete=OnDelete.RESTRICT
    )
    installed_at = fields.DatetimeField()
    removed_at = fields.DatetimeField(null=True)

    class Meta:
        app = "mallwatt"
        table = "meter_installation"
        indexes = (
            Index(fields=("shop_id",), name="idx_installation_shop"),
            Index(fields=("meter_id",), name="idx_installation_meter"),
        )


class BusJob(Model, metaclass=Table):
    """Something asked of a meter through the collector that owns its gateway (decision 10)."""

    id = fields.BigIntField(primary_key=True)
    gateway: fields.ForeignKeyRelation[Gateway] = fields.ForeignKeyField(
        "mallwatt.Gateway", related_name=False, on_delete=OnDelete.CASCADE
    )
    meter: fields.ForeignKeyRelation[Meter] = fields.ForeignKeyField(
        "mallwatt.Meter", related_name=False, on_delete=OnDelete.CASCADE
    )
    kind = fields.CharField(16)
    requested_by = fields.CharField(64)
    created_at = fields.DatetimeField()
    deadline_at = fields.DatetimeField()
    taken_epoch = fields.BigIntField(null=True)
    finished_at = fields.DatetimeField(null=True)
    result: fields.Field[dict[str, object] | None] = fields.JSONField(null=True)
    error = fields.CharField(200, null=True)

    class Meta:
        app = "mallwatt"
        table = "bus_job"
        indexes = (Index(fields=("gateway_id", "finished_at"), name="idx_bus_job_open"),)
