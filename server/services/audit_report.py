"""What an audit looked at and found."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

NAMED_MAX = 1_000  # violations named; the rest are counted

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that does not agree."""

    rule: str
    subject: str
    detail: str


@dataclass(slots=True)
class AuditReport:
    """What was looked at, and what does not agree; `since` and `until` None: without that end."""

    since: date | None = None
    until: date | None = None
    checked: dict[str, int] = field(default_factory=dict)
    awaiting_correction: int = 0
    violations: list[Violation] = field(default_factory=list)
    violation_count: int = 0

    @property
    def passed(self) -> bool:
        """Whether the books are proved."""
        return self.violation_count == 0

    def summary(self) -> str:
        """What was looked at and the verdict, in a line or two."""
        looked_at = ", ".join(f"{count} {what}" for what, count in self.checked.items())
        if self.since is not None:
            part = f"of {self.since}" if self.since == self.until else f"since {self.since}"
            looked_at += f" ({part}, and all wallets)"
        verdict = "the books are proved" if self.passed else "the books do not agree"
        waiting = f"{self.awaiting_correction} days await a correction"
        return f"checked: {looked_at}\n{verdict}: {self.violation_count} violations, {waiting}"

    def blame(self, rule: str, subject: str, detail: str) -> None:
        """Name a violation; beyond a thousand they are only counted."""
        self.violation_count += 1
        if len(self.violations) < NAMED_MAX:
            self.violations.append(Violation(rule, subject, detail))
