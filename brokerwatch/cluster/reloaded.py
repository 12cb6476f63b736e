"""What a reload has changed, for programs and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from brokerwatch.config.reload_plan import Plan


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload has changed. Its text says it in words, a line for each account."""

    added: tuple[str, ...] = ()
    """The accounts that are new, in a pool at whichever node. Each is available after its first success."""
    removed: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """By the account, the keys that have changed, but for those of its API key."""
    cluster: tuple[str, ...] = ()
    """The keys of [cluster] that have changed."""
    keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """By the account whose API key is another one, what became of that, in words."""
    reordered: bool = False
    """Whether the accounts have another order of preference."""

    @classmethod
    def of(cls, plan: Plan, keys: Mapping[str, str] = MappingProxyType({})) -> Reloaded:
        """What this plan has changed, once it was carried out."""
        return cls(
            added=tuple(spec.name for spec in plan.added),
            removed=plan.removed,
            changed=MappingProxyType({one.after.name: one.keys for one in plan.changed if one.keys}),
            cluster=plan.cluster,
            keys=keys,
            reordered=plan.reordered,
        )

    def __str__(self) -> str:
        lines = [f"{name}: added; it is available after its first success" for name in self.added]
        lines += [f"{name}: removed" for name in self.removed]
        lines += [f"{name}: changed: {', '.join(keys)}" for name, keys in self.changed.items()]
        lines += [f"{name}: {words}" for name, words in self.keys.items()]
        if self.cluster:
            lines.append(f"cluster: changed: {', '.join(self.cluster)}")
        if self.reordered:
            lines.append("the order of the accounts has changed")
        return "\n".join(lines) or "nothing has changed"
