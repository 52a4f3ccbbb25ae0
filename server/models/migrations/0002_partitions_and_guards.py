"""What Tortoise cannot say: partitions by month, checks, composite keys, append-only guards."""

from tortoise import migrations
from tortoise.migrations import operations as ops

# No foreign keys on what is partitioned: a new month would lock every table that they name against
# writers (and so meet them in a deadlock), and each reading would look up two rows that are never
# deleted. `mallwatt audit` proves what a statement names.
PARTITIONS = """
CREATE TABLE reading (
    site_id bigint NOT NULL,
    meter_id bigint NOT NULL,
    read_at timestamptz NOT NULL,
    register_wh bigint NOT NULL CHECK (register_wh >= 0),
    -- the meter's own sharp, peak, flat, valley and deep valley registers, null where it has none
    periods_wh bigint[] CHECK (cardinality(periods_wh) = 5),
    verdict text NOT NULL CHECK (verdict IN ('trusted', 'quarantined')),
    reason text CHECK ((verdict = 'quarantined') = (reason IS NOT NULL)),
    epoch bigint NOT NULL,
    kept_at timestamptz NOT NULL,
    judged_at timestamptz, -- when the verdict was last changed after keeping
    PRIMARY KEY (site_id, meter_id, read_at)
) PARTITION BY RANGE (read_at);
-- the newest one held apart is asked for with each batch, and is mostly far back or nowhere
CREATE INDEX reading_quarantined ON reading (site_id, meter_id, read_at)
    WHERE verdict = 'quarantined';

CREATE TABLE statement (
    site_id bigint NOT NULL,
    tenancy_id bigint NOT NULL,
    day date NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    energy_wh bigint NOT NULL,
    amount_fen bigint NOT NULL CHECK (amount_fen >= 0),
    estimated boolean NOT NULL,
    document jsonb NOT NULL,
    ledger_transaction_id bigint,
    closed_at timestamptz NOT NULL,
    -- a later version that costs nothing names the posting that gave the one before it back
    CHECK (amount_fen = 0 OR ledger_transaction_id IS NOT NULL),
    CHECK (version > 1 OR amount_fen > 0 OR ledger_transaction_id IS NULL),
    PRIMARY KEY (site_id, tenancy_id, day, version)
) PARTITION BY RANGE (day);

CREATE TABLE fixed_charge_statement (
    site_id bigint NOT NULL,
    tenancy_id bigint NOT NULL,
    day date NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    amount_fen bigint NOT NULL CHECK (amount_fen >= 0),
    document jsonb NOT NULL,
    ledger_transaction_id bigint,
    closed_at timestamptz NOT NULL,
    -- a later version that costs nothing names the posting that gave the one before it back
    CHECK (amount_fen = 0 OR ledger_transaction_id IS NOT NULL),
    CHECK (version > 1 OR amount_fen > 0 OR ledger_transaction_id IS NULL),
    PRIMARY KEY (site_id, tenancy_id, day, version)
) PARTITION BY RANGE (day);

-- a month's partition, made on first need: one maker at a time, and whoever waited for another may
-- still not see what that one has made
CREATE FUNCTION ensure_month_partition(parent text, month date) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    first_day date := date_trunc('month', month);
    child text := parent || '_' || to_char(first_day, 'YYYYMM');
BEGIN
    IF to_regclass(child) IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtext(child));
        IF to_regclass(child) IS NULL THEN
            IF parent = 'reading' THEN
                EXECUTE format(
                    'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', child, parent,
                    first_day::timestamp AT TIME ZONE 'UTC',
                    (first_day + interval '1 month') AT TIME ZONE 'UTC');
            ELSE
                EXECUTE format(
                    'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', child, parent,
                    first_day, (first_day + interval '1 month')::date);
            END IF;
            EXECUTE format(  -- row triggers come down from the parent, this kind does not
                'CREATE TRIGGER never_emptied BEFORE TRUNCATE ON %I'
                ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', child);
        END IF;
    END IF;
EXCEPTION WHEN duplicate_table THEN
    NULL;
END $$;
"""

GUARDS = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;

DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['account', 'ledger_transaction', 'ledger_transfer', 'statement',
                                'fixed_charge_statement', 'payment_credit', 'desk_receipt',
                                'meter_exchange', 'manager_act'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I'
                       ' FOR EACH ROW EXECUTE FUNCTION refuse_change()', kept);
    END LOOP;
    FOREACH kept IN ARRAY ARRAY['account', 'ledger_transaction', 'ledger_transfer', 'statement',
                                'fixed_charge_statement', 'payment_credit', 'desk_receipt',
                                'meter_exchange', 'manager_act', 'reading', 'wallet'] LOOP
        EXECUTE format('CREATE TRIGGER never_emptied BEFORE TRUNCATE ON %I'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', kept);
    END LOOP;
END $$;
-- a balance moves with the journal; the row itself stays as long as its account
CREATE TRIGGER never_deleted BEFORE DELETE ON wallet
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- a reading's verdict may be changed by a manager; what the meter said may not
CREATE FUNCTION refuse_other_reading() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.site_id, OLD.meter_id, OLD.read_at, OLD.register_wh)
        = (NEW.site_id, NEW.meter_id, NEW.read_at, NEW.register_wh)
        AND OLD.periods_wh IS NOT DISTINCT FROM NEW.periods_wh THEN
        IF OLD.verdict <> NEW.verdict THEN
            NEW.judged_at := clock_timestamp();
        END IF;
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'reading is append-only: % refused', TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON reading
    FOR EACH ROW EXECUTE FUNCTION refuse_other_reading();
"""

# Tortoise accepts constraints in a model and writes none of them.
CHECKS = """
ALTER TABLE ledger_transfer
    ADD CONSTRAINT transfer_amount_positive CHECK (amount_fen > 0),
    ADD CONSTRAINT transfer_accounts_differ CHECK (debit_account_id <> credit_account_id);
ALTER TABLE top_up ADD CONSTRAINT top_up_amount_positive CHECK (amount_fen > 0);
ALTER TABLE desk_receipt ADD CONSTRAINT desk_receipt_amount_positive CHECK (amount_fen > 0);
ALTER TABLE meter_exchange ADD CONSTRAINT meter_exchange_registers CHECK (
    final_wh >= 0 AND first_wh >= 0 AND transformer_ratio >= 1 AND final_wh < rollover_wh);
ALTER TABLE meter_installation ADD CONSTRAINT meter_installation_time CHECK (
    removed_at IS NULL OR removed_at >= installed_at);
ALTER TABLE payment_credit ADD CONSTRAINT payment_credit_amount_positive CHECK (amount_fen > 0);
ALTER TABLE bill_line ADD CONSTRAINT bill_line_amount_positive CHECK (amount_fen > 0),
    ADD CONSTRAINT bill_line_way CHECK (way IN ('payment', 'refund'));
ALTER TABLE reconciliation_day ADD CONSTRAINT reconciliation_day_fetched_first CHECK (
    finished_at IS NULL OR fetched_at IS NOT NULL);
ALTER TABLE account ADD CONSTRAINT account_wallet_has_tenancy CHECK (
    (kind IN ('electricity_wallet', 'fixed_charges_wallet')) = (tenancy_id IS NOT NULL));
"""

KEYS = """
CREATE UNIQUE INDEX account_key ON account (site_id, kind, coalesce(tenancy_id, 0));
CREATE UNIQUE INDEX tenancy_one_open ON tenancy (shop_id) WHERE closed_at IS NULL;
CREATE UNIQUE INDEX meter_installed_once ON meter_installation (meter_id)
    WHERE removed_at IS NULL;
CREATE UNIQUE INDEX binding_one_active ON binding (user_id, tenancy_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX meter_one_unit ON meter (gateway_id, unit) WHERE unit IS NOT NULL;
CREATE UNIQUE INDEX meter_one_address ON meter (gateway_id, address) WHERE address IS NOT NULL;
CREATE INDEX top_up_by_tenancy ON top_up (tenancy_id, created_at);
CREATE INDEX notice_by_tenancy ON notice (tenancy_id, created_at);
ALTER TABLE payment_credit ADD FOREIGN KEY (ledger_transaction_id)
    REFERENCES ledger_transaction (id);
CREATE INDEX payment_credit_posting ON payment_credit (ledger_transaction_id);
CREATE INDEX payment_credit_order ON payment_credit (order_id);
-- a bill's day of a merchant
CREATE INDEX payment_credit_paid ON payment_credit (platform, merchant_id, paid_at);
CREATE INDEX refund_part_sent ON refund_part
    (platform, merchant_id, coalesce(sent_at, finished_at)) WHERE attempts > 0;
CREATE INDEX refund_part_trade ON refund_part (out_trade_no);
-- what is only added to lies in the order of its time: a day of it is found by next to nothing
CREATE INDEX ledger_transaction_written ON ledger_transaction USING brin (created_at);
CREATE INDEX top_up_ordered ON top_up USING brin (created_at);
CREATE INDEX payment_notice_received ON payment_notice USING brin (received_at);
"""

# A sequence, for what it has handed out is never handed out again, even where an import is undone.
RULES = """
CREATE SEQUENCE rules_version;
-- open days change with each reading and no index on them does: new versions stay on their page
ALTER TABLE open_day SET (fillfactor = 60);
-- but once a day, when it may soon be closed: whoever closes finds it in its turn
CREATE INDEX open_day_ended ON open_day (day, tenancy_id) WHERE has_later_reading;
ALTER TABLE site ALTER rules_version SET DEFAULT nextval('rules_version');
ALTER TABLE settlement_due ALTER failures SET DEFAULT 0;
ALTER TABLE correction_due ALTER failures SET DEFAULT 0;
ALTER TABLE tenancy ALTER back_billing_fen SET DEFAULT 0;
"""


class Migration(migrations.Migration):
    """Readings and statements, the guards of what is append-only, checks, partial keys."""

    dependencies = [("mallwatt", "0001_tables")]

    operations = [
        ops.RunSQL(PARTITIONS),
        ops.RunSQL(GUARDS),
        ops.RunSQL(CHECKS),
        ops.RunSQL(KEYS),
        ops.RunSQL(RULES),
    ]
