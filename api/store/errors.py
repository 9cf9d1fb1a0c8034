"""What can go wrong between here and the database, said once; no driver is imported for it."""

from __future__ import annotations

from models.errors import TuttiError


class StoreError(TuttiError):
    """The database cannot be used as it is: unreachable, busy, or of another schema. The message says what to do."""
