import functools
from json import dumps, loads

from tortoise import fields, migrations
from tortoise.contrib.postgres.fields import ArrayField
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="AppUser",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("app_id", fields.CharField(max_length=32)),
                ("openid", fields.CharField(max_length=64)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "app_user",
                "app": "mallwatt",
                "unique_together": (("app_id", "openid"),),
                "pk_attr": "id",
                "table_description": "A person as one mini-program knows them.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="GuessCounter",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("scope", fields.CharField(max_length=32)),
                ("subject", fields.CharField(max_length=128)),
                ("failures", fields.IntField()),
                ("window_ends_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                (
                    "blocked_until",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
            ],
            options={
                "table": "guess_counter",
                "app": "mallwatt",
                "unique_together": (("scope", "subject"),),
                "pk_attr": "id",
                "table_description": "Wrong guesses of a secret by subject; in PostgreSQL, for Redis may be wiped.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="JobRun",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("job", fields.CharField(max_length=48)),
                ("slot", fields.CharField(max_length=48)),
                ("claimed_until", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                (
                    "finished_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
            ],
            options={
                "table": "job_run",
                "app": "mallwatt",
                "unique_together": (("job", "slot"),),
                "pk_attr": "id",
                "table_description": "One slot of a timed job; an expired unfinished claim is taken again (decision 14).",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="MessageConsent",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "user",
                    fields.ForeignKeyField(
                        "mallwatt.AppUser",
                        source_field="user_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("template_id", fields.CharField(max_length=64)),
                ("count", fields.IntField()),
            ],
            options={
                "table": "message_consent",
                "app": "mallwatt",
                "unique_together": (("user", "template_id"),),
                "pk_attr": "id",
                "table_description": "How many subscribe messages of a template a user still lets us send.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Site",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("code", fields.CharField(unique=True, max_length=32)),
                ("name", fields.CharField(max_length=100)),
                ("timezone", fields.CharField(max_length=64)),
                ("poll_seconds", fields.IntField()),
                ("close_after_days", fields.IntField()),
                (
                    "weixin_templates",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                (
                    "approval",
                    fields.JSONField(
                        null=True,
                        encoder=functools.partial(dumps, separators=(",", ":")),
                        decoder=loads,
                    ),
                ),
                ("shipping_information", fields.BooleanField(null=True)),
                ("rules_version", fields.BigIntField(default=0)),
                ("holidays_until", fields.IntField(default=0)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "site",
                "app": "mallwatt",
                "pk_attr": "id",
                "table_description": "A mall. `rules_version` changes with every import: by it processes know their rules old.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="FixedChargeVersion",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("code", fields.CharField(max_length=32)),
                ("valid_from", fields.DateField()),
                (
                    "definition",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
            ],
            options={
                "table": "fixed_charge_version",
                "app": "mallwatt",
                "unique_together": (("site", "code", "valid_from"),),
                "pk_attr": "id",
                "table_description": "One dated version of a fixed charge, as core/tariff/parse reads it.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Gateway",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("code", fields.CharField(max_length=32)),
                ("link", fields.CharField(max_length=16)),
                ("address", fields.CharField(null=True, max_length=255)),
                (
                    "settings",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                ("changed_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "gateway",
                "app": "mallwatt",
                "unique_together": (("site", "code"),),
                "pk_attr": "id",
                "table_description": "A physical bus and the way to it; `settings` holds what only its link needs.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="GatewayLease",
            fields=[
                (
                    "gateway",
                    fields.OneToOneField(
                        "mallwatt.Gateway",
                        source_field="gateway_id",
                        primary_key=True,
                        db_index=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("owner", fields.CharField(null=True, max_length=64)),
                ("epoch", fields.BigIntField(default=0)),
                ("held_until", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "gateway_lease",
                "app": "mallwatt",
                "pk_attr": "gateway_id",
                "table_description": "Who may speak on a gateway's bus; `epoch` grows with each new owner (decision 10).",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Kiosk",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("name", fields.CharField(max_length=64)),
                ("token_hash", fields.CharField(unique=True, max_length=64)),
                ("enrolled_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("enrolled_by", fields.CharField(max_length=64)),
            ],
            options={
                "table": "kiosk",
                "app": "mallwatt",
                "pk_attr": "id",
                "table_description": "A kiosk that a manager enrolled; its cookie's token, hashed.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="LedgerTransaction",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("flow", fields.CharField(max_length=48)),
                ("idempotency_key", fields.CharField(max_length=160)),
                ("input_hash", fields.CharField(max_length=64)),
                ("booked_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                (
                    "details",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
            ],
            options={
                "table": "ledger_transaction",
                "app": "mallwatt",
                "unique_together": (("site", "idempotency_key"),),
                "pk_attr": "id",
                "table_description": "One business event; the same key and input is posted once, another input is refused.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Manager",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("name", fields.CharField(unique=True, max_length=64)),
                ("password_hash", fields.CharField(max_length=200)),
                ("role", fields.CharField(max_length=16)),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "manager",
                "app": "mallwatt",
                "pk_attr": "id",
                "table_description": "A person of the mall; no site: all sites.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ActToken",
            fields=[
                (
                    "token_hash",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                (
                    "manager",
                    fields.ForeignKeyField(
                        "mallwatt.Manager",
                        source_field="manager_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("act", fields.CharField(max_length=48)),
                ("facts_hash", fields.CharField(max_length=64)),
                ("expires_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "act_token",
                "app": "mallwatt",
                "pk_attr": "token_hash",
                "table_description": "A one-use token of a dangerous page: the POST must come within 60 s, on unchanged facts.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ManagerAct",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("actor", fields.CharField(max_length=64)),
                ("act", fields.CharField(max_length=48)),
                ("subject", fields.CharField(max_length=128)),
                ("reason", fields.CharField(max_length=500)),
                (
                    "facts",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                ("at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "manager_act",
                "app": "mallwatt",
                "pk_attr": "id",
                "table_description": "The audit log: one row an act of a manager, in the act's own transaction.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ManagerSession",
            fields=[
                (
                    "token_hash",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                (
                    "manager",
                    fields.ForeignKeyField(
                        "mallwatt.Manager",
                        source_field="manager_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("expires_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "manager_session",
                "app": "mallwatt",
                "pk_attr": "token_hash",
                "table_description": "A manager's bearer token or page cookie, hashed.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Merchant",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("platform", fields.CharField(max_length=16)),
                ("merchant_id", fields.CharField(max_length=32)),
                ("app_id", fields.CharField(max_length=32)),
                (
                    "settings",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
            ],
            options={
                "table": "merchant",
                "app": "mallwatt",
                "unique_together": (("site", "platform"),),
                "pk_attr": "id",
                "table_description": "A site's account at a payment platform; keys stay in files, here are their paths.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="PaymentNotice",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("platform", fields.CharField(max_length=16)),
                ("merchant_id", fields.CharField(max_length=32)),
                ("digest", fields.CharField(max_length=64)),
                ("out_trade_no", fields.CharField(max_length=64)),
                ("out_refund_no", fields.CharField(null=True, max_length=64)),
                (
                    "trade",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                ("content", fields.TextField(unique=False)),
                ("received_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("settled_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("outcome", fields.CharField(null=True, max_length=32)),
                ("attempts", fields.IntField(default=0)),
                ("try_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "payment_notice",
                "app": "mallwatt",
                "unique_together": (("platform", "merchant_id", "digest"),),
                "indexes": [Index(fields=["settled_at", "try_at"], name="idx_payment_notice_open")],
                "pk_attr": "id",
                "table_description": "The inbox: a verified notice, kept before it is answered (decision 9).",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Shop",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("code", fields.CharField(max_length=32)),
                ("name", fields.CharField(max_length=100)),
                ("area_cm2", fields.BigIntField()),
                ("capacity_va", fields.BigIntField()),
                ("tariff_code", fields.CharField(max_length=32)),
                ("supply_policy_code", fields.CharField(max_length=32)),
                (
                    "fixed_charges",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                ("supply_protection", fields.BooleanField()),
                ("token", fields.CharField(unique=True, max_length=64)),
            ],
            options={
                "table": "shop",
                "app": "mallwatt",
                "unique_together": (("site", "code"),),
                "pk_attr": "id",
                "table_description": "A unit of the mall: meters and the printed QR code belong to it (decision 3).",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Meter",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("code", fields.CharField(max_length=32)),
                (
                    "gateway",
                    fields.ForeignKeyField(
                        "mallwatt.Gateway",
                        source_field="gateway_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("unit", fields.IntField(null=True)),
                ("address", fields.CharField(null=True, max_length=32)),
                ("profile", fields.CharField(max_length=64)),
                ("transformer_ratio", fields.IntField()),
                ("role", fields.CharField(max_length=16)),
                (
                    "shop",
                    fields.ForeignKeyField(
                        "mallwatt.Shop",
                        source_field="shop_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("identity", fields.CharField(null=True, max_length=64)),
                ("max_power_w", fields.BigIntField(null=True)),
                ("rollover_wh", fields.BigIntField()),
                ("has_relay", fields.BooleanField()),
            ],
            options={
                "table": "meter",
                "app": "mallwatt",
                "unique_together": (("site", "code"),),
                "indexes": [
                    Index(fields=["gateway_id"], name="idx_meter_gateway"),
                    Index(fields=["shop_id"], name="idx_meter_shop"),
                ],
                "pk_attr": "id",
                "table_description": "A meter on a bus. `max_power_w`, `rollover_wh`, `has_relay`: from its profile at import.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="BusJob",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "gateway",
                    fields.ForeignKeyField(
                        "mallwatt.Gateway",
                        source_field="gateway_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                (
                    "meter",
                    fields.ForeignKeyField(
                        "mallwatt.Meter",
                        source_field="meter_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("kind", fields.CharField(max_length=16)),
                ("requested_by", fields.CharField(max_length=64)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("deadline_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("taken_epoch", fields.BigIntField(null=True)),
                (
                    "finished_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                (
                    "result",
                    fields.JSONField(
                        null=True,
                        encoder=functools.partial(dumps, separators=(",", ":")),
                        decoder=loads,
                    ),
                ),
                ("error", fields.CharField(null=True, max_length=200)),
            ],
            options={
                "table": "bus_job",
                "app": "mallwatt",
                "indexes": [Index(fields=["gateway_id", "finished_at"], name="idx_bus_job_open")],
                "pk_attr": "id",
                "table_description": "Something asked of a meter through the collector that owns its gateway (decision 10).",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="MeterControl",
            fields=[
                (
                    "meter",
                    fields.OneToOneField(
                        "mallwatt.Meter",
                        source_field="meter_id",
                        primary_key=True,
                        db_index=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("policy_state", fields.CharField(max_length=32)),
                ("hold_reason", fields.CharField(null=True, max_length=200)),
                ("hold_by", fields.CharField(null=True, max_length=64)),
                ("held_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("commanded", fields.CharField(null=True, max_length=32)),
                (
                    "commanded_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                ("confirmed", fields.CharField(null=True, max_length=32)),
                (
                    "confirmed_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                ("answered_writes", fields.IntField(default=0)),
                ("unanswered_writes", fields.IntField(default=0)),
                ("disconnected_by_us", fields.BooleanField(default=False)),
                ("case_code", fields.CharField(null=True, max_length=32)),
                ("retry_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                (
                    "read_back_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                (
                    "reconnected_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                ("permit_only", fields.BooleanField(default=False)),
                ("permitted", fields.BooleanField(default=False)),
                (
                    "next_action_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
            ],
            options={
                "table": "meter_control",
                "app": "mallwatt",
                "indexes": [Index(fields=["next_action_at"], name="idx_meter_control_next")],
                "pk_attr": "meter_id",
                "table_description": "Desired, commanded and confirmed are different things; only a read-back confirms.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="MeterExchange",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "meter",
                    fields.ForeignKeyField(
                        "mallwatt.Meter",
                        source_field="meter_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("exchanged_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("final_wh", fields.BigIntField()),
                ("first_wh", fields.BigIntField()),
                ("transformer_ratio", fields.IntField()),
                ("rollover_wh", fields.BigIntField()),
                ("reason", fields.CharField(max_length=200)),
                ("made_by", fields.CharField(max_length=64)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "meter_exchange",
                "app": "mallwatt",
                "unique_together": (("meter", "exchanged_at"),),
                "pk_attr": "id",
                "table_description": "A device replaced by another under the same code: what the old one showed last, the new first.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="MeterInstallation",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "meter",
                    fields.ForeignKeyField(
                        "mallwatt.Meter",
                        source_field="meter_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "shop",
                    fields.ForeignKeyField(
                        "mallwatt.Shop",
                        source_field="shop_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("installed_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("removed_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "meter_installation",
                "app": "mallwatt",
                "indexes": [
                    Index(fields=["shop_id"], name="idx_installation_shop"),
                    Index(fields=["meter_id"], name="idx_installation_meter"),
                ],
                "pk_attr": "id",
                "table_description": "The time in which a meter measures a shop; `removed_at` is null while it does.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="MeterStatus",
            fields=[
                (
                    "meter",
                    fields.OneToOneField(
                        "mallwatt.Meter",
                        source_field="meter_id",
                        primary_key=True,
                        db_index=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("read_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("register_wh", fields.BigIntField(null=True)),
                (
                    "points",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                ("tried_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("finding", fields.CharField(null=True, max_length=200)),
            ],
            options={
                "table": "meter_status",
                "app": "mallwatt",
                "pk_attr": "meter_id",
                "table_description": "A meter's newest trusted reading and its health; a projection, harmless to recompute.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="SupplyPolicy",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("code", fields.CharField(max_length=32)),
                (
                    "rules",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
            ],
            options={
                "table": "supply_policy",
                "app": "mallwatt",
                "unique_together": (("site", "code"),),
                "pk_attr": "id",
                "table_description": "Rules of warning, disconnecting and reconnecting, as core/supply/policy reads them.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="TariffVersion",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("code", fields.CharField(max_length=32)),
                ("valid_from", fields.DateField()),
                (
                    "definition",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
            ],
            options={
                "table": "tariff_version",
                "app": "mallwatt",
                "unique_together": (("site", "code", "valid_from"),),
                "pk_attr": "id",
                "table_description": "One dated version of a tariff, as core/tariff/parse reads it.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Tenancy",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "shop",
                    fields.ForeignKeyField(
                        "mallwatt.Shop",
                        source_field="shop_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("opened_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("closed_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("binding_code", fields.CharField(max_length=32)),
                ("opening_balance_fen", fields.BigIntField(default=0)),
                ("first_open_day", fields.DateField(null=True)),
                ("fixed_open_day", fields.DateField(null=True)),
                (
                    "fixed_try_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                (
                    "closing_try_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                ("supply_state", fields.CharField(default="connected", max_length=32)),
                (
                    "supply_reasons",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                (
                    "supply_decided_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                (
                    "overdrawn_since",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                (
                    "reconnect_confirmed_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                ("emergency_credit_fen", fields.BigIntField(default=0)),
                (
                    "emergency_credit_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                ("back_billing_fen", fields.BigIntField(default=0)),
                (
                    "back_billing_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                (
                    "decide_again_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                (
                    "notice_memory",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
            ],
            options={
                "table": "tenancy",
                "app": "mallwatt",
                "indexes": [
                    Index(fields=["shop_id", "closed_at"], name="idx_tenancy_shop"),
                    Index(fields=["decide_again_at"], name="idx_tenancy_decide"),
                ],
                "pk_attr": "id",
                "table_description": "One operator's time in a shop; wallets, top-ups and statements belong to it.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Account",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("kind", fields.CharField(max_length=32)),
                (
                    "tenancy",
                    fields.ForeignKeyField(
                        "mallwatt.Tenancy",
                        source_field="tenancy_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
            ],
            options={
                "table": "account",
                "app": "mallwatt",
                "pk_attr": "id",
                "table_description": "An account of core/ledger/accounts; a wallet kind has a tenancy, others have none.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Approval",
            fields=[
                (
                    "no",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=32),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("kind", fields.CharField(max_length=32)),
                (
                    "tenancy",
                    fields.ForeignKeyField(
                        "mallwatt.Tenancy",
                        source_field="tenancy_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "act",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                (
                    "asked_by",
                    fields.ForeignKeyField(
                        "mallwatt.Manager",
                        source_field="asked_by_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("asked_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("expires_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                (
                    "decided_by",
                    fields.ForeignKeyField(
                        "mallwatt.Manager",
                        source_field="decided_by_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("decided_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("decision", fields.CharField(null=True, max_length=16)),
                ("decision_reason", fields.CharField(null=True, max_length=200)),
            ],
            options={
                "table": "approval",
                "app": "mallwatt",
                "indexes": [Index(fields=["site_id", "decided_at"], name="idx_approval_open")],
                "pk_attr": "no",
                "table_description": "An act that waits for a second person; `act` holds what will be done, whole.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Binding",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "user",
                    fields.ForeignKeyField(
                        "mallwatt.AppUser",
                        source_field="user_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                (
                    "tenancy",
                    fields.ForeignKeyField(
                        "mallwatt.Tenancy",
                        source_field="tenancy_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("bound_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("ended_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "binding",
                "app": "mallwatt",
                "indexes": [Index(fields=["tenancy_id"], name="idx_binding_tenancy")],
                "pk_attr": "id",
                "table_description": "A user's access to a tenancy, until it ends.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="CorrectionDue",
            fields=[
                (
                    "tenancy",
                    fields.OneToOneField(
                        "mallwatt.Tenancy",
                        source_field="tenancy_id",
                        primary_key=True,
                        db_index=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("first_day", fields.DateField()),
                ("try_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("failures", fields.IntField(default=0)),
            ],
            options={
                "table": "correction_due",
                "app": "mallwatt",
                "indexes": [Index(fields=["try_at", "tenancy_id"], name="idx_correction_due_try")],
                "pk_attr": "tenancy_id",
                "table_description": "A tenancy whose closed days are to be rated anew from `first_day` on, at `try_at`.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="DeskReceipt",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("receipt_no", fields.CharField(max_length=64)),
                (
                    "tenancy",
                    fields.ForeignKeyField(
                        "mallwatt.Tenancy",
                        source_field="tenancy_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("wallet", fields.CharField(max_length=32)),
                ("method", fields.CharField(max_length=16)),
                ("amount_fen", fields.BigIntField()),
                ("taken_by", fields.CharField(max_length=64)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                (
                    "ledger_transaction",
                    fields.ForeignKeyField(
                        "mallwatt.LedgerTransaction",
                        source_field="ledger_transaction_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
            ],
            options={
                "table": "desk_receipt",
                "app": "mallwatt",
                "unique_together": (("site", "receipt_no"),),
                "pk_attr": "id",
                "table_description": "Money taken at the desk or by bank transfer; a receipt's number is good for one payment.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="LedgerTransfer",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "transaction",
                    fields.ForeignKeyField(
                        "mallwatt.LedgerTransaction",
                        source_field="transaction_id",
                        db_constraint=False,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "debit_account",
                    fields.ForeignKeyField(
                        "mallwatt.Account",
                        source_field="debit_account_id",
                        db_constraint=False,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "credit_account",
                    fields.ForeignKeyField(
                        "mallwatt.Account",
                        source_field="credit_account_id",
                        db_constraint=False,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("amount_fen", fields.BigIntField()),
            ],
            options={
                "table": "ledger_transfer",
                "app": "mallwatt",
                "indexes": [
                    Index(fields=["debit_account_id", "id"], name="idx_transfer_debit"),
                    Index(fields=["credit_account_id", "id"], name="idx_transfer_credit"),
                    Index(fields=["transaction_id"], name="idx_transfer_transaction"),
                ],
                "pk_attr": "id",
                "table_description": "One debit account, one credit account, one positive amount: it cannot be unbalanced.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Notice",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "tenancy",
                    fields.ForeignKeyField(
                        "mallwatt.Tenancy",
                        source_field="tenancy_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("kind", fields.CharField(max_length=32)),
                ("level", fields.IntField()),
                ("dedup_key", fields.CharField(max_length=100)),
                (
                    "facts",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                (
                    "delivered_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                ("opened_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "notice",
                "app": "mallwatt",
                "unique_together": (("tenancy", "dedup_key"),),
                "pk_attr": "id",
                "table_description": "Something a tenancy is told, once a `dedup_key`; delivered by proof only (decision 9).",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="OpenDay",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "tenancy",
                    fields.ForeignKeyField(
                        "mallwatt.Tenancy",
                        source_field="tenancy_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("day", fields.DateField()),
                ("energy_wh", fields.BigIntField()),
                ("amount_fen", fields.BigIntField()),
                ("estimated", fields.BooleanField()),
                ("complete", fields.BooleanField()),
                ("has_later_reading", fields.BooleanField()),
                ("rules_version", fields.BigIntField()),
                ("block_start_wh", fields.BigIntField()),
                ("cells_wh", ArrayField("bigint")),
                ("meter_ids", ArrayField("bigint")),
                ("read_ats", ArrayField("timestamptz")),
                ("registers_wh", ArrayField("bigint")),
                ("computed_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "open_day",
                "app": "mallwatt",
                "unique_together": (("tenancy", "day"),),
                "pk_attr": "id",
                "table_description": "The projection of one tenancy's day that is not on a statement yet (decision 5).",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="OutboxMessage",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "notice",
                    fields.ForeignKeyField(
                        "mallwatt.Notice",
                        source_field="notice_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("channel", fields.CharField(max_length=16)),
                ("address", fields.CharField(max_length=64)),
                ("template_id", fields.CharField(max_length=64)),
                (
                    "fields_json",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                ("state", fields.CharField(max_length=16)),
                ("attempts", fields.IntField(default=0)),
                ("try_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                (
                    "claimed_until",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                ("channel_id", fields.CharField(null=True, max_length=64)),
                ("sent_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("in_doubt", fields.BooleanField(default=False)),
                ("error", fields.CharField(null=True, max_length=200)),
            ],
            options={
                "table": "outbox_message",
                "app": "mallwatt",
                "unique_together": (("notice", "channel", "address"),),
                "indexes": [Index(fields=["state", "try_at"], name="idx_outbox_due")],
                "pk_attr": "id",
                "table_description": "One message of a notice on one channel; `in_doubt`: a kill fell between send and commit.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="SettlementDue",
            fields=[
                (
                    "tenancy",
                    fields.OneToOneField(
                        "mallwatt.Tenancy",
                        source_field="tenancy_id",
                        primary_key=True,
                        db_index=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("first_day", fields.DateField()),
                ("try_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("failures", fields.IntField(default=0)),
            ],
            options={
                "table": "settlement_due",
                "app": "mallwatt",
                "indexes": [Index(fields=["try_at", "tenancy_id"], name="idx_settlement_due_try")],
                "pk_attr": "tenancy_id",
                "table_description": "A tenancy whose open days are to be projected again, from `first_day` on, at `try_at`.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="TopUp",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("no", fields.CharField(unique=True, max_length=32)),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "tenancy",
                    fields.ForeignKeyField(
                        "mallwatt.Tenancy",
                        source_field="tenancy_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "user",
                    fields.ForeignKeyField(
                        "mallwatt.AppUser",
                        source_field="user_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("wallet", fields.CharField(max_length=32)),
                ("amount_fen", fields.BigIntField()),
                ("status", fields.CharField(max_length=16)),
                ("idempotency_key", fields.CharField(max_length=100)),
                ("input_hash", fields.CharField(max_length=64)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("expires_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("paid_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                (
                    "credited_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                (
                    "commanded_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                (
                    "confirmed_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                ("refunded_fen", fields.BigIntField(default=0)),
            ],
            options={
                "table": "top_up",
                "app": "mallwatt",
                "unique_together": (("tenancy", "idempotency_key"),),
                "indexes": [Index(fields=["status", "expires_at"], name="idx_top_up_status")],
                "pk_attr": "id",
                "table_description": "What a tenant means to pay in; the four times are the ticks the payer sees.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="PaymentOrder",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "top_up",
                    fields.ForeignKeyField(
                        "mallwatt.TopUp",
                        source_field="top_up_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("platform", fields.CharField(max_length=16)),
                ("merchant_id", fields.CharField(max_length=32)),
                ("out_trade_no", fields.CharField(unique=True, max_length=32)),
                ("method", fields.CharField(max_length=16)),
                ("state", fields.CharField(max_length=16)),
                (
                    "payment",
                    fields.JSONField(
                        null=True,
                        encoder=functools.partial(dumps, separators=(",", ":")),
                        decoder=loads,
                    ),
                ),
                (
                    "payment_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                ("client_ip", fields.CharField(null=True, max_length=45)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("query_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("queries", fields.IntField(default=0)),
                ("transaction_id", fields.CharField(null=True, max_length=64)),
                ("ship_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("ships", fields.IntField(null=True)),
                ("shipped_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "payment_order",
                "app": "mallwatt",
                "indexes": [Index(fields=["ship_at"], name="idx_payment_order_ship")],
                "pk_attr": "id",
                "table_description": "One out_trade_no at one platform for one top-up; one of a method waits at a time.\n\n`payment`: what the payer was given, when. `client_ip`: a try again has to say the same.\n`transaction_id`: the payment that was credited. `ship_at`: when WeChat is told next that what\nwas paid for is there, where the site says so.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="PaymentCredit",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("platform", fields.CharField(max_length=16)),
                ("merchant_id", fields.CharField(max_length=32)),
                ("transaction_id", fields.CharField(max_length=64)),
                ("out_trade_no", fields.CharField(max_length=64)),
                (
                    "order",
                    fields.ForeignKeyField(
                        "mallwatt.PaymentOrder",
                        source_field="order_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("amount_fen", fields.BigIntField()),
                ("paid_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("ledger_transaction_id", fields.BigIntField()),
            ],
            options={
                "table": "payment_credit",
                "app": "mallwatt",
                "unique_together": (("platform", "merchant_id", "transaction_id"),),
                "pk_attr": "id",
                "table_description": "A payment that reached the books: once a merchant and transaction id, for ever.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="PaymentCase",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("kind", fields.CharField(max_length=32)),
                ("subject", fields.CharField(max_length=160)),
                (
                    "facts",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                (
                    "tenancy",
                    fields.ForeignKeyField(
                        "mallwatt.Tenancy",
                        source_field="tenancy_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "credit",
                    fields.ForeignKeyField(
                        "mallwatt.PaymentCredit",
                        source_field="credit_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("opened_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("decision", fields.CharField(null=True, max_length=16)),
                ("decided_by", fields.CharField(null=True, max_length=64)),
                ("decided_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("reason", fields.CharField(null=True, max_length=200)),
                ("closed_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "payment_case",
                "app": "mallwatt",
                "unique_together": (("site", "kind", "subject"),),
                "pk_attr": "id",
                "table_description": "A payment that no rule may credit by itself: shown to a manager, never lost.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Refund",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("no", fields.CharField(unique=True, max_length=32)),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "tenancy",
                    fields.ForeignKeyField(
                        "mallwatt.Tenancy",
                        source_field="tenancy_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("wallet", fields.CharField(null=True, max_length=32)),
                (
                    "case",
                    fields.ForeignKeyField(
                        "mallwatt.PaymentCase",
                        source_field="case_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("amount_fen", fields.BigIntField()),
                ("reason", fields.CharField(max_length=200)),
                ("asked_by", fields.CharField(max_length=64)),
                ("approval_no", fields.CharField(null=True, max_length=32)),
                ("idempotency_key", fields.CharField(max_length=100)),
                ("input_hash", fields.CharField(max_length=64)),
                ("status", fields.CharField(max_length=16)),
                ("asked_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("expires_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("started_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                (
                    "finished_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
            ],
            options={
                "table": "refund",
                "app": "mallwatt",
                "unique_together": (("site", "idempotency_key"),),
                "indexes": [Index(fields=["tenancy_id", "asked_at"], name="idx_refund_tenancy")],
                "pk_attr": "id",
                "table_description": "Money that somebody asked to be given back, from a wallet or (no wallet) from suspense.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="RefundPart",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "refund",
                    fields.ForeignKeyField(
                        "mallwatt.Refund",
                        source_field="refund_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "credit",
                    fields.ForeignKeyField(
                        "mallwatt.PaymentCredit",
                        source_field="credit_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("platform", fields.CharField(null=True, max_length=16)),
                ("merchant_id", fields.CharField(null=True, max_length=32)),
                ("out_trade_no", fields.CharField(null=True, max_length=64)),
                ("out_refund_no", fields.CharField(unique=True, max_length=64)),
                ("amount_fen", fields.BigIntField()),
                ("state", fields.CharField(max_length=16)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("try_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("attempts", fields.IntField(default=0)),
                ("sent_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                (
                    "finished_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                ("platform_refund_id", fields.CharField(null=True, max_length=64)),
                ("code", fields.CharField(null=True, max_length=64)),
                ("method", fields.CharField(null=True, max_length=16)),
                ("reference", fields.CharField(null=True, max_length=64)),
                ("paid_by", fields.CharField(null=True, max_length=64)),
            ],
            options={
                "table": "refund_part",
                "app": "mallwatt",
                "indexes": [
                    Index(fields=["try_at"], name="idx_refund_part_due"),
                    Index(fields=["credit_id"], name="idx_refund_part_credit"),
                    Index(fields=["refund_id"], name="idx_refund_part_refund"),
                ],
                "pk_attr": "id",
                "table_description": "One try to give part of it back: to one original payment, or by hand (no `credit`).",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="UserSession",
            fields=[
                (
                    "token_hash",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                (
                    "user",
                    fields.ForeignKeyField(
                        "mallwatt.AppUser",
                        source_field="user_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("expires_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "user_session",
                "app": "mallwatt",
                "pk_attr": "token_hash",
                "table_description": "A bearer token, hashed.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Wallet",
            fields=[
                (
                    "account",
                    fields.OneToOneField(
                        "mallwatt.Account",
                        source_field="account_id",
                        primary_key=True,
                        db_index=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("balance_fen", fields.BigIntField(default=0)),
            ],
            options={
                "table": "wallet",
                "app": "mallwatt",
                "pk_attr": "account_id",
                "table_description": "A wallet's balance: the journal's projection, written by the posting statement alone.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ReconciliationDay",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("platform", fields.CharField(max_length=16)),
                ("merchant_id", fields.CharField(max_length=32)),
                ("day", fields.DateField()),
                ("digest", fields.CharField(null=True, max_length=64)),
                ("tried_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("fetched_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("changed_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                (
                    "finished_at",
                    fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
                ),
                ("problem", fields.CharField(null=True, max_length=64)),
                ("bill_payments", fields.IntField(default=0)),
                ("bill_payments_fen", fields.BigIntField(default=0)),
                ("bill_refunds", fields.IntField(default=0)),
                ("bill_refunds_fen", fields.BigIntField(default=0)),
                ("our_payments", fields.IntField(default=0)),
                ("our_payments_fen", fields.BigIntField(default=0)),
                ("our_refunds", fields.IntField(default=0)),
                ("our_refunds_fen", fields.BigIntField(default=0)),
            ],
            options={
                "table": "reconciliation_day",
                "app": "mallwatt",
                "unique_together": (("platform", "merchant_id", "day"),),
                "pk_attr": "id",
                "table_description": "A merchant's Chinese day: its bill, the sums of both sides, and how far comparing got.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="BillLine",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "day",
                    fields.ForeignKeyField(
                        "mallwatt.ReconciliationDay",
                        source_field="day_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("line", fields.IntField()),
                ("way", fields.CharField(max_length=16)),
                ("number", fields.CharField(max_length=64)),
                ("out_trade_no", fields.CharField(max_length=64)),
                ("transaction_id", fields.CharField(max_length=64)),
                ("amount_fen", fields.BigIntField()),
                ("fee_fen", fields.BigIntField()),
                ("at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("status", fields.CharField(null=True, max_length=16)),
                ("our_number", fields.CharField(null=True, max_length=64)),
            ],
            options={
                "table": "bill_line",
                "app": "mallwatt",
                "unique_together": (("day", "line"),),
                "indexes": [
                    Index(fields=["number"], name="idx_bill_line_number"),
                    Index(fields=["our_number"], name="idx_bill_line_our"),
                ],
                "pk_attr": "id",
                "table_description": "A line of a fetched bill; `our_number` names what it was matched with.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ReconciliationDifference",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "day",
                    fields.ForeignKeyField(
                        "mallwatt.ReconciliationDay",
                        source_field="day_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "site",
                    fields.ForeignKeyField(
                        "mallwatt.Site",
                        source_field="site_id",
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("finding", fields.CharField(max_length=32)),
                ("number", fields.CharField(max_length=64)),
                ("out_trade_no", fields.CharField(max_length=64)),
                ("our_fen", fields.BigIntField(null=True)),
                ("our_state", fields.CharField(null=True, max_length=16)),
                ("bill_fen", fields.BigIntField(null=True)),
                ("bill_state", fields.CharField(null=True, max_length=16)),
                ("answer", fields.CharField(max_length=16)),
                (
                    "case",
                    fields.ForeignKeyField(
                        "mallwatt.PaymentCase",
                        source_field="case_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("found_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("cured_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "reconciliation_difference",
                "app": "mallwatt",
                "indexes": [Index(fields=["day_id"], name="idx_reconciliation_difference_day")],
                "pk_attr": "id",
                "table_description": "What differed of a day: cured, or else shown; settled where its case is closed.",
            },
            bases=["Model"],
        ),
    ]
