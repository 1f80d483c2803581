"""What the HTTP status of a GraphQL answer says, in either of two profiles.

`compatible` is what clients and their test suites expect today. With `application/json` a status
other than 200 may come from anything between client and service, so such clients read errors from
a 200; with `application/graphql-response+json` a request that was not run is 400. `draft` is
GraphQL over HTTP as of 2026: 422, and 294 where only a part could be answered.
"""

from __future__ import annotations

from typing import Literal

from schema.operations import Reason
from server.negotiation import RESPONSE

StatusProfile = Literal["compatible", "draft"]

_DRAFT_STATUSES = {Reason.SYNTAX: 400, Reason.METHOD: 400}


def refused_status(reason: Reason, media_type: bytes, profile: StatusProfile) -> int:
    """The status of an answer to a request of which nothing was executed."""
    if reason is Reason.THROTTLED:
        return 429
    if profile == "draft":
        return _DRAFT_STATUSES.get(reason, 422)
    if reason is Reason.METHOD:
        return 400
    return 400 if media_type == RESPONSE else 200


def executed_status(media_type: bytes, profile: StatusProfile, *, has_errors: bool) -> int:
    """The status of an answer to an operation that was executed, in whole or in part."""
    if profile == "draft" and has_errors and media_type == RESPONSE:
        return 294
    return 200


def ill_formed_status(profile: StatusProfile) -> int:
    """The status of an answer to what is JSON, and yet no GraphQL request."""
    return 422 if profile == "draft" else 400


def labelled(media_type: bytes, status: int, profile: StatusProfile) -> bytes:
    """The content type of a GraphQL answer.

    By the draft the older type stands on answers of success only: on any other it would not say
    whether the service speaks or something in between.
    """
    named = RESPONSE if profile == "draft" and status >= 300 else media_type
    return named + b"; charset=utf-8"
