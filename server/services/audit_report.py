"""What an audit looked at and found."""

from collections.abc import Callable
from dataclasses import dataclass, field

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
    """What was looked at, and what does not agree."""

    checked: dict[str, int] = field(default_factory=dict)
    awaiting_correction: int = 0
    violations: list[Violation] = field(default_factory=list)
    violation_count: int = 0

    @property
    def passed(self) -> bool:
        """Whether the books are proved."""
        return self.violation_count == 0

    def blame(self, rule: str, subject: str, detail: str) -> None:
        """Name a violation; beyond a thousand they are only counted."""
        self.violation_count += 1
        if len(self.violations) < NAMED_MAX:
            self.violations.append(Violation(rule, subject, detail))
