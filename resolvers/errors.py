"""The ways in which a question or a command is refused: one class for each code of the contract.

They carry what a caller may read. Anything else that is raised is unexpected: it is masked at
the edge and logged with the correlation id.
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Error codes that clients can rely on (`errors[].extensions.code`)."""

    GRAPHQL_PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
    GRAPHQL_VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
    BAD_USER_INPUT = "BAD_USER_INPUT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    RATE_LIMITED = "RATE_LIMITED"
    QUERY_TOO_EXPENSIVE = "QUERY_TOO_EXPENSIVE"
    TIMEOUT = "TIMEOUT"
    OVERLOADED = "OVERLOADED"
    UNAVAILABLE = "UNAVAILABLE"
    PERSISTED_QUERY_NOT_FOUND = "PERSISTED_QUERY_NOT_FOUND"
    PERSISTED_QUERY_NOT_SUPPORTED = "PERSISTED_QUERY_NOT_SUPPORTED"
    INTERNAL_SERVER_ERROR = "INTERNAL_SERVER_ERROR"


class Refusal(Exception):
    """A refusal that may be shown: a sentence for people, a code and details for programs."""

    code: Code

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    @property
    def extensions(self) -> dict[str, object]:
        """The code and the details, as a GraphQL error carries them."""
        return {"code": self.code.value, **self.details}


class BadUserInput(Refusal):
    """An argument has a value that cannot be worked with; `argument` names it."""

    code = Code.BAD_USER_INPUT

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(message, argument=argument)


class Unauthenticated(Refusal):
    """No key was sent, or one that is unknown, revoked or expired."""

    code = Code.UNAUTHENTICATED


class Forbidden(Refusal):
    """The key is good, but not for this."""

    code = Code.FORBIDDEN


class NotFound(Refusal):
    """What was named does not exist."""

    code = Code.NOT_FOUND


class RateLimited(Refusal):
    """The key has spent what it may for now; `retry_after` is in seconds."""

    code = Code.RATE_LIMITED

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message, retryAfter=retry_after)
        self.retry_after = retry_after


class QueryTooExpensive(Refusal):
    """The document asks for more than an operation may; the details name the limit."""

    code = Code.QUERY_TOO_EXPENSIVE


class TimedOut(Refusal):
    """The answer took longer than an operation may; its queries were cancelled."""

    code = Code.TIMEOUT


class PersistedQueryNotFound(Refusal):
    """Nothing is kept under this hash or id. Clients know the message and send the text then."""

    code = Code.PERSISTED_QUERY_NOT_FOUND

    def __init__(self) -> None:
        super().__init__("PersistedQueryNotFound")


class PersistedQueryNotSupported(Refusal):
    """The key takes whole documents only. Clients know the message and send no hashes then."""

    code = Code.PERSISTED_QUERY_NOT_SUPPORTED

    def __init__(self) -> None:
        super().__init__("PersistedQueryNotSupported")


class Overloaded(Refusal):
    """More is on its way than can be taken; `retry_after` is in seconds."""

    code = Code.OVERLOADED

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message, retryAfter=retry_after)
        self.retry_after = retry_after


class Unavailable(Refusal):
    """A part of the service does not answer; `part` names it."""

    code = Code.UNAVAILABLE

    def __init__(self, part: str, message: str, retry_after: int = 1) -> None:
        super().__init__(message, part=part)
        self.retry_after = retry_after
