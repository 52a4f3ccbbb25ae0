"""What may stand in the journal and what two people agreed on, held also against psql."""

from tortoise import migrations
from tortoise.migrations import operations as ops

# flow, debit, credit: what core/ledger/routing says (a test compares). A changed rule needs a new
# migration that replaces ledger_routes() whole.
ROUTES = """
adjustment.made adjustments electricity_wallet
adjustment.made adjustments fixed_charges_wallet
adjustment.made electricity_wallet adjustments
adjustment.made fixed_charges_wallet adjustments
adjustment.reversed adjustments electricity_wallet
adjustment.reversed adjustments fixed_charges_wallet
adjustment.reversed electricity_wallet adjustments
adjustment.reversed fixed_charges_wallet adjustments
desk_payment.received bank electricity_wallet
desk_payment.received bank fixed_charges_wallet
desk_payment.received desk electricity_wallet
desk_payment.received desk fixed_charges_wallet
desk_payment.reversed electricity_wallet bank
desk_payment.reversed electricity_wallet desk
desk_payment.reversed fixed_charges_wallet bank
desk_payment.reversed fixed_charges_wallet desk
energy.charge_reversed energy_revenue electricity_wallet
energy.charged electricity_wallet energy_revenue
energy.corrected electricity_wallet energy_revenue
energy.corrected energy_revenue electricity_wallet
fixed_charge.charged fixed_charges_wallet fixed_charge_revenue
fixed_charge.corrected fixed_charge_revenue fixed_charges_wallet
fixed_charge.corrected fixed_charges_wallet fixed_charge_revenue
fixed_charge.reversed fixed_charge_revenue fixed_charges_wallet
move_out.paid electricity_wallet bank
move_out.paid electricity_wallet desk
move_out.paid electricity_wallet rounding
move_out.paid fixed_charges_wallet bank
move_out.paid fixed_charges_wallet desk
move_out.paid fixed_charges_wallet rounding
move_out.paid rounding electricity_wallet
move_out.paid rounding fixed_charges_wallet
move_out.returned bank electricity_wallet
move_out.returned bank fixed_charges_wallet
move_out.returned desk electricity_wallet
move_out.returned desk fixed_charges_wallet
move_out.returned electricity_wallet rounding
move_out.returned fixed_charges_wallet rounding
move_out.returned rounding electricity_wallet
move_out.returned rounding fixed_charges_wallet
opening_balance.reversed electricity_wallet opening_balances
opening_balance.reversed fixed_charges_wallet opening_balances
opening_balance.reversed opening_balances electricity_wallet
opening_balance.reversed opening_balances fixed_charges_wallet
opening_balance.set electricity_wallet opening_balances
opening_balance.set fixed_charges_wallet opening_balances
opening_balance.set opening_balances electricity_wallet
opening_balance.set opening_balances fixed_charges_wallet
refund.done refunds_in_progress alipay_clearing
refund.done refunds_in_progress bank
refund.done refunds_in_progress desk
refund.done refunds_in_progress wechat_clearing
refund.failed refunds_in_progress electricity_wallet
refund.failed refunds_in_progress fixed_charges_wallet
refund.returned alipay_clearing refunds_in_progress
refund.returned bank refunds_in_progress
refund.returned desk refunds_in_progress
refund.returned wechat_clearing refunds_in_progress
refund.started electricity_wallet refunds_in_progress
refund.started fixed_charges_wallet refunds_in_progress
suspense.credit_reversed electricity_wallet suspense
suspense.credit_reversed fixed_charges_wallet suspense
suspense.credited suspense electricity_wallet
suspense.credited suspense fixed_charges_wallet
suspense.received alipay_clearing suspense
suspense.received bank suspense
suspense.received desk suspense
suspense.received wechat_clearing suspense
suspense.refunded suspense alipay_clearing
suspense.refunded suspense bank
suspense.refunded suspense desk
suspense.refunded suspense wechat_clearing
top_up.reversed electricity_wallet alipay_clearing
top_up.reversed electricity_wallet wechat_clearing
top_up.reversed fixed_charges_wallet alipay_clearing
top_up.reversed fixed_charges_wallet wechat_clearing
top_up.settled alipay_clearing electricity_wallet
top_up.settled alipay_clearing fixed_charges_wallet
top_up.settled wechat_clearing electricity_wallet
top_up.settled wechat_clearing fixed_charges_wallet
"""
_QUOTED = ",\n    ".join(f"'{route}'" for route in ROUTES.strip().splitlines())

ROUTING = f"""
CREATE FUNCTION ledger_routes() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT ARRAY[
    {_QUOTED}
] $$;
"""

# One look at all rows of a statement, not one a row, and in place of the foreign keys of
# ledger_transfer: those looked up three rows for each transfer, and locked the same few accounts
# of the site again and again. What they name is never deleted. The plan is made once a session,
# maybe on empty tables: it must not learn to read tables whole.
GUARDS = """
ALTER TABLE ledger_transfer -- Tortoise writes them although the model wants none (1.1.9)
    DROP CONSTRAINT ledger_transfer_transaction_id_fkey,
    DROP CONSTRAINT ledger_transfer_debit_account_id_fkey,
    DROP CONSTRAINT ledger_transfer_credit_account_id_fkey;

CREATE FUNCTION refuse_wrong_transfers() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong record;
BEGIN
    SELECT made.transaction_id AS id,
        coalesce(bool_and(
            event.flow || ' ' || debit.kind || ' ' || credit.kind = ANY (ledger_routes())
        ), false) AS may_meet,
        coalesce(bool_and(event.xmin = own.xmin AND event.cmin = own.cmin), false) AS at_once
    INTO wrong
    FROM made JOIN ledger_transfer own ON own.id = made.id
    LEFT JOIN ledger_transaction event ON event.id = made.transaction_id
    LEFT JOIN account debit
        ON debit.id = made.debit_account_id AND debit.site_id = event.site_id
    LEFT JOIN account credit
        ON credit.id = made.credit_account_id AND credit.site_id = event.site_id
    GROUP BY made.transaction_id
    HAVING NOT coalesce(bool_and(
            event.flow || ' ' || debit.kind || ' ' || credit.kind = ANY (ledger_routes())
            AND event.xmin = own.xmin AND event.cmin = own.cmin
        ), false)
        OR min(coalesce(debit.tenancy_id, credit.tenancy_id))
            <> max(coalesce(debit.tenancy_id, credit.tenancy_id))
    LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'transaction %: %', wrong.id, CASE
        WHEN NOT wrong.may_meet THEN 'its flow may not let these accounts of its site meet'
        WHEN NOT wrong.at_once THEN 'a transfer is written in the statement of its transaction'
        ELSE 'more than one wallet' END
        USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER only_what_may_meet AFTER INSERT ON ledger_transfer
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION refuse_wrong_transfers();

CREATE FUNCTION refuse_empty_transactions() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT made.id INTO wrong FROM made
    WHERE NOT EXISTS (SELECT FROM ledger_transfer WHERE transaction_id = made.id) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transaction %: no transfer in its statement', wrong
            USING ERRCODE = 'check_violation', CONSTRAINT = 'never_empty';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER never_empty AFTER INSERT ON ledger_transaction
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION refuse_empty_transactions();
"""

# What the second person looked at is what is done, once, and never by the one who asked.
APPROVALS = """
ALTER TABLE approval ADD CONSTRAINT approval_by_another CHECK (decided_by_id <> asked_by_id);
ALTER TABLE approval ADD CONSTRAINT approval_decided_whole CHECK (
    (decided_at IS NULL) = (decided_by_id IS NULL) AND (decided_at IS NULL) = (decision IS NULL)
    AND decision IN ('approve', 'reject'));
CREATE FUNCTION refuse_other_approval() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    decided text[] := ARRAY['decided_by_id', 'decided_at', 'decision', 'decision_reason'];
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.decided_at IS NULL
        AND to_jsonb(OLD) - decided = to_jsonb(NEW) - decided THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'an approval is decided once, as it was asked: % refused', TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER decided_once BEFORE UPDATE OR DELETE ON approval
    FOR EACH ROW EXECUTE FUNCTION refuse_other_approval();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON approval
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE INDEX manager_act_by_subject ON manager_act (site_id, subject, id);
"""

# Of a refund, its parts and a case only how far they are may change, and at their end nothing.
REFUNDS = """
ALTER TABLE refund ADD CONSTRAINT refund_amount_positive CHECK (amount_fen > 0),
    ADD CONSTRAINT refund_from_wallet_or_case CHECK (
        (wallet IS NULL) = (case_id IS NOT NULL) AND (wallet IS NULL OR tenancy_id IS NOT NULL)),
    ADD CONSTRAINT refund_status CHECK (status IN
        ('waiting', 'rejected', 'expired', 'in_progress', 'done', 'partly', 'failed')),
    ADD CONSTRAINT refund_finished CHECK (
        (finished_at IS NULL) = (status IN ('waiting', 'in_progress')));
ALTER TABLE refund_part ADD CONSTRAINT refund_part_amount_positive CHECK (amount_fen > 0),
    ADD CONSTRAINT refund_part_state CHECK (
        state IN ('due', 'processing', 'abnormal', 'to_pay', 'done', 'failed', 'replaced')),
    ADD CONSTRAINT refund_part_finished CHECK (
        (finished_at IS NULL) = (state IN ('due', 'processing', 'abnormal', 'to_pay'))),
    ADD CONSTRAINT refund_part_of_payment CHECK (
        (credit_id IS NULL) = (platform IS NULL) AND (credit_id IS NULL) = (merchant_id IS NULL)
        AND (credit_id IS NULL) = (out_trade_no IS NULL)),
    ADD CONSTRAINT refund_part_by_hand CHECK (
        credit_id IS NOT NULL OR state IN ('to_pay', 'failed') OR (state = 'done'
            AND method IN ('cash', 'bank_transfer') AND reference <> '' AND paid_by <> ''));
ALTER TABLE payment_case ADD CONSTRAINT payment_case_decided_whole CHECK (
    (decided_at IS NULL) = (decision IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)
    AND (closed_at IS NULL OR decided_at IS NOT NULL));
-- the first argument names when it ended, all of them what may change until then
CREATE FUNCTION keep_money_facts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND to_jsonb(OLD) ->> TG_ARGV[0] IS NULL
        AND to_jsonb(OLD) - TG_ARGV = to_jsonb(NEW) - TG_ARGV THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'of a % only how far it is may change, until its end: % refused',
        TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER keep_money_facts BEFORE UPDATE OR DELETE ON refund FOR EACH ROW
    EXECUTE FUNCTION keep_money_facts('finished_at', 'status', 'started_at');
CREATE TRIGGER keep_money_facts BEFORE UPDATE OR DELETE ON refund_part FOR EACH ROW
    EXECUTE FUNCTION keep_money_facts('finished_at', 'state', 'try_at', 'attempts', 'sent_at',
        'platform_refund_id', 'code', 'method', 'reference', 'paid_by');
CREATE TRIGGER keep_money_facts BEFORE UPDATE OR DELETE ON payment_case FOR EACH ROW
    EXECUTE FUNCTION keep_money_facts('closed_at', 'decision', 'decided_by', 'decided_at',
        'reason');
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON refund
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON refund_part
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON payment_case
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE INDEX payment_case_open ON payment_case (site_id, opened_at) WHERE closed_at IS NULL;
CREATE INDEX payment_case_credit ON payment_case (credit_id);
CREATE INDEX refund_waiting ON refund (tenancy_id) WHERE status = 'waiting';
CREATE INDEX refund_expiring ON refund (expires_at) WHERE status = 'waiting';
CREATE INDEX refund_of_case ON refund (case_id);
"""

# What core/top_ups/states allows (a test compares): "old new", before what else may change.
TOP_UP_CHANGES = """
pending paid, pending closed, closed paid, paid refunding, paid refunded, refunding paid,
refunding refunded
"""
ATTEMPT_CHANGES = """
waiting closing, waiting closed, waiting paid, closing closed, closing paid, closed paid
"""


def _quoted(changes: str) -> str:
    return ", ".join(f"'{one}'" for one in " ".join(changes.split()).split(", "))


TOP_UPS = f"""
ALTER TABLE top_up ADD CONSTRAINT top_up_status CHECK (
        status IN ('pending', 'paid', 'closed', 'refunding', 'refunded')),
    ADD CONSTRAINT top_up_refunded CHECK (refunded_fen BETWEEN 0 AND amount_fen);
ALTER TABLE payment_order ADD CONSTRAINT payment_order_state CHECK (
        state IN ('waiting', 'closing', 'paid', 'closed')),
    ADD CONSTRAINT payment_order_asked CHECK (
        (query_at IS NULL) = (state IN ('paid', 'closed'))),
    ADD CONSTRAINT payment_order_given CHECK ((payment IS NULL) = (payment_at IS NULL));
CREATE UNIQUE INDEX payment_order_waiting ON payment_order (top_up_id, method)
    WHERE state = 'waiting';
CREATE INDEX payment_order_top_up ON payment_order (top_up_id, id);
CREATE INDEX payment_order_due ON payment_order (platform, query_at, id)
    WHERE query_at IS NOT NULL;
CREATE FUNCTION keep_payment_state() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was jsonb := to_jsonb(OLD);
    now_is jsonb := to_jsonb(NEW);
    changed text := concat(was ->> TG_ARGV[0], ' ', now_is ->> TG_ARGV[0]);
BEGIN
    IF was - TG_ARGV = now_is - TG_ARGV
        AND (was ->> TG_ARGV[0] = now_is ->> TG_ARGV[0] OR changed = ANY (TG_ARGV)) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'of a % only how far it is may change, as its states allow: % refused',
        TG_TABLE_NAME, changed USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER keep_payment_state BEFORE UPDATE ON top_up FOR EACH ROW
    EXECUTE FUNCTION keep_payment_state('status', 'paid_at', 'credited_at', 'commanded_at',
        'confirmed_at', 'refunded_fen', {_quoted(TOP_UP_CHANGES)});
CREATE TRIGGER keep_payment_state BEFORE UPDATE ON payment_order FOR EACH ROW
    EXECUTE FUNCTION keep_payment_state('state', 'payment', 'payment_at', 'query_at', 'queries',
        'transaction_id', 'ship_at', 'ships', 'shipped_at', {_quoted(ATTEMPT_CHANGES)});
-- credited is credited, once: the status says the same as the time
CREATE FUNCTION keep_credit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (TG_OP = 'INSERT' OR OLD.credited_at IS NULL OR OLD.credited_at = NEW.credited_at)
        AND (NEW.credited_at IS NULL) = (NEW.status IN ('pending', 'closed')) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a top-up is credited once, and what is credited is paid'
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER keep_credit BEFORE INSERT OR UPDATE ON top_up FOR EACH ROW
    EXECUTE FUNCTION keep_credit();
CREATE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON top_up
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON payment_order
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    """Same site, accounts that may meet, one wallet, no transaction without its transfers."""

    dependencies = [("mallwatt", "0002_partitions_and_guards")]

    operations = [
        ops.RunSQL(ROUTING),
        ops.RunSQL(GUARDS),
        ops.RunSQL(APPROVALS),
        ops.RunSQL(REFUNDS),
        ops.RunSQL(TOP_UPS),
    ]
