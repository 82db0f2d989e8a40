"""What views of programs return, and the HTTP exceptions that programs raise."""

from __future__ import annotations

from typing import Final

from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.utils import redirect
from werkzeug.wrappers import Response

from flask_reqsession.testing.programs import Reply

_TEXT: Final = "done"


def returned(reply: Reply) -> object:
    """Return what the view returns."""
    match reply.form:
        case "text":
            return _TEXT
        case "json":
            return {_TEXT: True}
        case "tuple":
            return _TEXT, reply.status
        case "error":
            return http_error(reply.status)
        case "nothing":
            return None
        case _:
            return _response(reply.status)


def http_error(status: int) -> HTTPException:
    """Return what ``abort()`` raises; a success it is told by a response."""
    known = default_exceptions.get(status)
    return HTTPException(response=_response(status)) if known is None else known()


def status_of(error: HTTPException) -> int | None:
    """Return the status of the response that Flask makes of ``error``."""
    return error.code if error.response is None else error.response.status_code


def _response(status: int) -> Response:
    is_redirect = status in {301, 302, 303, 307, 308}
    return redirect("/elsewhere", status) if is_redirect else Response(_TEXT, status)
