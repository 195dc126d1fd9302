"""Let all sites learn that a run is finished."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fedmosaic.distributed.courier import Courier, Errand
from fedmosaic.distributed.messages import SiteRequest
from fedmosaic.errors import listed


def finish_sites(courier: Courier, session: str, joined: Sequence[str], message: str) -> None:
    """Tell sites that the run is finished; each writes its adapter and leaves.

    A site whose process was killed may come back, so it is waited for as for any request.

    Args:
        courier: reaches the sites.
        session: id of the run.
        joined: the clients that must learn of it, besides those that are connected.
        message: for the people who run the sites.
    """
    members, seconds = courier.members, courier.limits.request_seconds
    header, notified = {"message": message, "save": True}, set[str]()
    courier.board.set(state="finishing")
    members.ending = True
    members.look()
    here = members.connected()
    if away := [name for name in joined if name not in here]:
        courier.board.event(f"waiting for {listed(away)} to finish, for at most {seconds:g} s")

    def errand(name: str) -> Errand:
        def request() -> SiteRequest:
            notified.add(name)
            return SiteRequest("finish", session, header)

        return Errand(name, request, seconds)

    def has_left(one: Errand) -> bool:
        return one.site in notified and members.node(one.site) is None

    errands = [errand(name) for name in [*here, *away]]
    end = time.monotonic() + seconds

    def is_over(left: Sequence[Errand]) -> bool:
        # A site leaves when it has finished, sometimes before its answer has been fetched.
        return all(has_left(one) for one in left) or time.monotonic() > end

    done = {one.site for one, _ in courier.answers(errands, is_over)}
    for one in errands:
        if one.site in done or has_left(one):
            courier.board.state_of(one.site, "finished")
        else:
            courier.board.error(one.site, f"has not finished within {seconds:g} s")
