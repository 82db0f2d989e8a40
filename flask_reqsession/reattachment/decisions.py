"""What is to be done in one call: decided first, carried out as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.orm.attributes import instance_state

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, RelationshipProperty

    from flask_reqsession.reattachment.membership import Members
    from flask_reqsession.reattachment.merging import Merge, Write
    from flask_reqsession.reattachment.refreshing import Values
    from flask_reqsession.reattachment.refusals import Place


class Decisions:
    """The decisions about the saved instances among the arguments, and all they have loaded."""

    # No dataclass: its factories would take longer than the decision about an instance.
    __slots__ = (
        "arguments",
        "attached",
        "copies",
        "expired",
        "fresh",
        "kept",
        "members",
        "merges",
        "moved",
        "roots",
        "targets",
        "writes",
    )

    def __init__(self, arguments: list[tuple[object, Place]]) -> None:
        self.arguments: list[tuple[object, Place]] = arguments
        self.attached: list[object] = []
        """What is attached as the same object, and the unsaved instances that come with it."""
        self.roots: list[object] = []
        """Those of them that no cascade brings along."""
        self.copies: list[tuple[object, object]] = []
        """Instances of other sessions, and what stands for them in this one."""
        self.targets: dict[InstanceState[object], object] = {}
        """What stands for an instance that is replaced; None if its row is gone."""
        self.moved: list[object] = []
        """The arguments that are attached or replaced."""
        self.merges: list[tuple[Merge, Place]] = []
        """The changes of replaced instances."""
        self.writes: list[Write] = []
        """What is written to the replacements because of them."""
        self.kept: set[tuple[InstanceState[object], object]] = set()
        """The attributes of replacements in which the session has the last word."""
        self.fresh: dict[InstanceState[object], Values] = {}
        """What instances are refreshed with."""
        self.members: Members = {}
        """What belongs to their collections by now."""
        self.expired: list[tuple[object, str]] = []
        """Changes of references that give way to what the database has."""

    def target(self, instance: object) -> object:
        """Return what stands for an instance in the session, often the instance itself."""
        return self.targets.get(instance_state(instance), instance)

    def stays(self, child: object, relationship: RelationshipProperty[object]) -> bool:
        """Tell whether a member of a collection stays where the session has it.

        The other side of the relationship is the child's own reference, if there is one.
        """
        return (instance_state(child), relationship.back_populates or relationship) in self.kept

    def place_of(self, instance: object) -> Place:
        """Return where the call has an instance, or what is replaced by it; nowhere if related."""
        for argument, place in self.arguments:
            if self.target(argument) is instance:
                return place
        return "", ""
