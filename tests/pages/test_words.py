"""Both languages say everything: no code reaches a person untranslated."""

import re
from string import Formatter

import pytest

import web
from payments.contract import Method, Platform
from server.core.reconciliation.compare import Finding, Kind
from server.core.reconciliation.cures import Answer
from server.core.refunds.cases import CaseDecision, CaseKind
from server.core.refunds.parts import PartState
from server.core.supply.reasons import Reason
from server.core.supply.state import Case
from server.core.tariff.periods import TouPeriod
from server.handlers.admin_day_pages import CLOSE_ACT
from server.handlers.admin_exchange_pages import EXCHANGE_ACT
from server.handlers.admin_pages import TOLD
from server.handlers.messages import messages, say
from server.http.locale import Locale
from server.services.approvals import Status
from server.services.desk import METHODS
from server.services.manager_acts import Role
from server.services.money_by_hand import ADJUSTMENT, DESK_PAYMENT, KINDS
from server.services.reconciliation_report import PROBLEMS
from server.services.waiting_days import Why
from server.services.wallets import WALLETS

CODES = {
    "reason": [*Reason, "held"],
    "case": list(Case),
    "method": list(Method),
    "role": list(Role),
    "act": [
        DESK_PAYMENT,
        ADJUSTMENT,
        *("move_out", "move_out_payout", "move_in"),
        "emergency_credit",
        "approval_asked",
        "approval_approved",
        "approval_rejected",
        *("refund", "refund_payout", "case_credit", "case_decided"),
        CLOSE_ACT,
        EXCHANGE_ACT,
    ],
    "days": list(Why),
    "told": sorted(TOLD),
    "approval": [*Status, *(f"kind_{kind}" for kind in KINDS), "told_approved", "told_rejected"],
    "money": [*METHODS, *WALLETS],
    "problem": [
        "facts_changed",
        "reason_needed",
        "invalid_input",
        "conflict",
        "other_day_first",
        "day_not_over",
        "day_is_complete",
        *("move_out_not_settled", "more_than_left", "more_than_owed", "already_reversed"),
        *(
            "above_available",
            "not_to_pay",
            "reference_used",
            "case_decided",
            "not_for_this_case",
            "shop_needed",
        ),
        *("no_such_payment", "above_payment"),
    ],
    "platform": list(Platform),
    "part": list(PartState),
    "payment_case": [
        *(f"{word}_{kind}" for word in ("kind", "why") for kind in CaseKind),
        *(f"do_{decision}" for decision in CaseDecision),
    ],
    "period": list(TouPeriod),
    "reconciliation": [
        *("agreed", "differs", "pending", "awaited"),
        *(f"kind_{kind}" for kind in Kind),
        *(f"finding_{finding}" for finding in Finding),
        *(f"answer_{answer}" for answer in Answer),
        *(f"outcome_{outcome}" for outcome in ("cured", "decided", "case", "waiting")),
        *(f"problem_{problem}" for problem in (*PROBLEMS, "refused")),
    ],
    "tick": ["paid", "credited", "commanded", "confirmed"],
    "state": ["on", "off", "low", "ready", "switching", "unknown", "connected", "disconnected"],
}


def _fields(words: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(words) if name}


def test_both_languages_have_the_same_messages_with_the_same_fields() -> None:
    chinese, english = messages(Locale.ZH), messages(Locale.EN)
    assert chinese.keys() == english.keys()
    for key, words in chinese.items():
        assert _fields(words) == _fields(english[key]), key


@pytest.mark.parametrize("locale", list(Locale))
def test_every_code_has_words(locale: Locale) -> None:
    missing = [
        f"{group}.{code}"
        for group, codes in CODES.items()
        for code in codes
        if f"{group}.{code}" not in messages(locale)
    ]
    assert missing == []


def test_every_message_of_a_template_exists_and_every_message_is_used() -> None:
    templates = "".join(
        path.read_text(encoding="utf-8") for path in (web.FOLDER / "templates").iterdir()
    )
    quoted = set(re.findall(r"\bt\('([a-z_]+\.[a-z_0-9]+)'", templates))
    quoted |= set(re.findall(r" else '([a-z_]+\.[a-z_]+)'", templates))
    quoted = {key for key in quoted if not key.endswith("_")}  # the rest is built
    assert quoted <= messages(Locale.ZH).keys()
    built = set(re.findall(r"'([a-z_]+\.[a-z_]*)' ~", templates))  # t('tick.' ~ tick.name)
    unused = [
        key
        for key in sorted(messages(Locale.ZH).keys() - quoted)
        if not any(key.startswith(start) for start in built)
    ]
    assert unused == []


def test_an_unknown_code_says_itself() -> None:
    assert say(Locale.EN, "reason.brand_new") == "brand_new"
