"""What must hold of a run of `loadgen`, as its report has it: shared by this folder's scripts."""

AUDIT_FAULTS = ("duplicated", "lost", "epoch_went_back", "undecided", "unknown")


def entities_at_fault(report):
    """Entities that were duplicated or lost, or whose epoch went back, and those of which nobody can say at the end who simulates them; None if
    not everybody was audited.

    By the end of a run whatever befell the servers is over, all zones tell again, and nobody leaves the world during one: who is undecided or
    unknown then is lost. How often a zone told everything anew (`interruptions`) says nothing: it does when its stream breaks or its store is
    restarted.
    """
    audit = report["audit"]
    if not audit or audit["entities"] < max(1, report["bots"]["connected"]):
        return None
    return sum(audit[name] for name in AUDIT_FAULTS)


def players_out(report):
    """Bots that could not act when the window ended, or never came into the world."""
    bots = report["bots"]
    return max(report["outages"]["still_out"], bots["requested"] - bots["connected"])


def players_anew(report):
    """How often a player was lost and made anew, which acts again as if nothing had been; None if not everybody came into the world.

    There is no natural cause: who falls off the world keeps its entity, and a player whose gateway is gone waits in the world for another.
    """
    bots = report["bots"]
    return report["respawns"] if bots["connected"] == bots["requested"] else None


def crossed(report, figure):
    """A figure about borders; None if nobody crossed one."""
    return figure if report["handoffs"]["count"] else None


def total(figures):
    """The sum; None if one is missing."""
    figures = list(figures)
    return None if None in figures else sum(figures)
