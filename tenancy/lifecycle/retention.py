"""Decide which backups of one tenant are kept: the newest of each of the last days, weeks and months that have any.

Days, weeks (ISO 8601) and months are those of UTC. The last good backup is kept whatever the rule says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tenancy.catalog.backups import Backup, BackupState
from tenancy.errors import ConfigurationError

MOST = 1_000
_PERIODS: dict[str, Callable[[datetime], tuple[int, ...]]] = {
    "daily": lambda at: (at.year, at.month, at.day),
    "weekly": lambda at: tuple(at.isocalendar()[:2]),
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: (at.year,),
}
EXAMPLE = "daily=7,weekly=4,monthly=12"


@dataclass(frozen=True)
class Keep:
    """How many days, weeks, months and years keep a backup."""

    periods: tuple[tuple[str, int], ...]

    @classmethod
    def read(cls, text: str) -> Keep:
        """Read a rule such as ``daily=7,weekly=4,monthly=12``; ConfigurationError says what is wrong with it."""
        found: dict[str, int] = {}
        for part in (part.strip() for part in text.split(",")):
            match = re.fullmatch(r"([a-z]+)=([0-9]{1,4})", part)
            if match is None or match[1] not in _PERIODS or match[1] in found or not 0 < int(match[2]) <= MOST:
                raise ConfigurationError(
                    f"keep cannot be {part[:40]!r}: write for example {EXAMPLE}; there are {', '.join(_PERIODS)}, each "
                    f"once, from 1 to {MOST}.",
                    field="keep",
                )
            found[match[1]] = int(match[2])
        return cls(tuple(found.items()))

    def kept(self, good: Sequence[Backup]) -> set[Backup]:
        """Return which of a tenant's good backups, the newest first, are kept."""
        kept = set(good[:1])
        for period, number in self.periods:
            seen: list[tuple[int, ...]] = []
            for backup in good:
                at = _PERIODS[period](backup.started_at.astimezone(UTC))
                if at not in seen:
                    if len(seen) == number:
                        break
                    seen.append(at)
                    kept.add(backup)
        return kept


def superfluous(backups: Sequence[Backup], keep: Keep) -> list[Backup]:
    """Return which of one tenant's backups, the newest first, are to be deleted.

    Damaged ones stay while there is no good one that is newer; of failed ones only the row remains, and it goes once a
    good one is newer.
    """
    good = [backup for backup in backups if backup.state == BackupState.GOOD]
    kept = keep.kept(good)
    if not good:
        return []
    return [each for each in backups if each not in kept and (each.state == BackupState.GOOD or _older(each, good[0]))]


def _older(backup: Backup, than: Backup) -> bool:
    return (backup.started_at, backup.id) < (than.started_at, than.id)
