"""Who of several is next: round robin, which is Piko's rule and fair where requests cost about the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

Member = TypeVar("Member")


class RoundRobin(Generic[Member]):
    """Members in turn. Whoever joins or leaves, the others keep their places in the round.

    Members are told apart by identity. `next` is called for every request and looks at one member, or two if
    one is avoided; `remove` searches, for the rare case.
    """

    __slots__ = ("_members", "_turn")

    def __init__(self) -> None:
        self._members: list[Member] = []
        self._turn = 0  # index of the next one, or one past the last

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    def add(self, member: Member) -> None:
        """Let `member` join as the last of the round."""
        self._members.append(member)

    def remove(self, member: Member) -> bool:
        """Let `member` leave; False if it is none."""
        for index, known in enumerate(self._members):
            if known is member:
                del self._members[index]
                if index < self._turn:
                    self._turn -= 1
                return True
        return False

    def next(self, avoid: Member | None = None) -> Member | None:
        """Whose turn it is, None if there is nobody; `avoid` only if there is nobody else."""
        members = self._members
        turn = self._turn
        if turn >= len(members):
            if not members:
                return None
            turn = 0
        member = members[turn]
        self._turn = turn + 1
        if member is avoid and len(members) > 1:
            return self.next()
        return member
