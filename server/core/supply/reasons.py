"""The reasons of a decision: stable codes, which pages turn into words."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a supply should be what it should be."""

    PAID_UP = "paid_up"
    WITHIN_LIMIT = "within_limit"  # below zero, not below the overdraft limit
    EMERGENCY_CREDIT = "emergency_credit"  # connected by it alone
    AWAITING_CONFIRMATION = "awaiting_confirmation"
    MOVED_OUT = "moved_out"  # nobody's balance: the supply stays as it was
    OVERDRAWN = "overdrawn"
    # What holds a new disconnection, in the order in which it is told:
    PROTECTED = "protected"
    BACK_BILLING = "back_billing"  # overdrawn only by what is of the past and not yet told
    NO_RECENT_READING = "no_recent_reading"
    DISPUTED = "disputed"
    NOTICE_NOT_DELIVERED = "notice_not_delivered"
    NOTICE_RUNNING = "notice_running"
    QUIET_HOURS = "quiet_hours"
    WEEKEND = "weekend"
    HOLIDAY = "holiday"
    HOLIDAYS_UNKNOWN = "holidays_unknown"  # this year's are not known: it might be one
