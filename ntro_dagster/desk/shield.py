"""What stands before every request: its host, where it comes from, and what a browser may do with the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; object-src 'none'; frame-src 'self'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer a form of ours would come from the origin `null`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
SAFE = frozenset({"GET", "HEAD"})
LARGEST_BODY = 32 << 20

Next = Callable[[Request], Awaitable[Response]]


def refused(status: int, error: str, message: str) -> JSONResponse:
    """The shape of every error of the API (spec, section 7)."""
    return JSONResponse({"statusCode": status, "message": message, "error": error}, status)


def shield(hosts: tuple[str, ...], port: int) -> Callable[[Request, Next], Awaitable[Response]]:
    """Middleware.

    Args:
        hosts: names that a request may have for us. Another is a stranger's page whose name was bound to this address.
    """
    names = {*hosts, *(f"{host}:{port}" for host in hosts)}
    origins = {f"http://{name}" for name in names} | {f"https://{host}" for host in hosts}

    async def guarded(request: Request, go_on: Next) -> Response:
        if request.headers.get("host", "").lower() not in names:
            return refused(421, "HOST_UNKNOWN", "this desk does not go by that name")
        if request.method not in SAFE:
            origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
            if (origin is not None and origin not in origins) or site not in {None, "same-origin", "none"}:
                return refused(403, "CROSS_SITE", "a page of another site asked for this")
            length = request.headers.get("content-length", "0")
            if "transfer-encoding" in request.headers:
                return refused(411, "LENGTH_MISSING", "a body needs a Content-Length")
            if not length.isdigit() or int(length) > LARGEST_BODY:
                return refused(413, "BODY_TOO_LARGE", f"at most {LARGEST_BODY >> 20} MiB")
        answer = await go_on(request)
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        answer.headers.setdefault("Content-Security-Policy", POLICY)
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    return guarded
