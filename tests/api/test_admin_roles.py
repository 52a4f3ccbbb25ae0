"""Who may do what: the whole table, cell by cell; what it does not name is denied."""

import itertools

import pytest

from server.core.errors import ForbiddenError
from server.services.manager_acts import ALLOWED, Act, Role, may, require

# rows: roles; columns: acts in this order
COLUMNS = (
    Act.READ,
    Act.MONEY,
    Act.DEVICES,
    Act.SUPPLY,
    Act.KIOSKS,
    Act.TICKETS,
    Act.NOTICES,
    Act.BINDING_CODES,
)
TABLE = {
    Role.OWNER: "yyyyyyyy",
    Role.FINANCE: "yy......",
    Role.ENGINEER: "y.yyy...",
    Role.SERVICE: "y....yyy",
    Role.READ_ONLY: "y.......",
}


@pytest.mark.parametrize(("role", "act"), list(itertools.product(Role, Act)))
def test_a_cell(role: Role, act: Act) -> None:
    allowed = TABLE[role][COLUMNS.index(act)] == "y"
    assert may(role, act) is allowed
    if allowed:
        require(role, act)
    else:
        with pytest.raises(ForbiddenError):
            require(role, act)


def test_a_role_without_a_row_may_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    without = {role: acts for role, acts in ALLOWED.items() if role is not Role.OWNER}
    monkeypatch.setattr("server.services.manager_acts.ALLOWED", without)
    assert not any(may(Role.OWNER, act) for act in Act)
