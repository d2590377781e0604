"""Who gets in: the page that was opened with the token, in a browser on this machine; nobody else.

Every program of this machine, and every site that a browser here has open, can reach a port of the
loopback. So each request must

1. name this server as its host: a site whose name was made to point here (DNS rebinding) names its
   own;
2. carry the token, the first piece of the path, which is compared in constant time. It stands in
   the path so that pictures and scripts carry it as well, without a cookie that other ports of this
   machine would be sent, too;
3. if it changes something, come from a page of this server, as browsers tell (``Origin``,
   ``Sec-Fetch-Site``).

Answers forbid the page to ask any other host for anything, to run scripts but its own, to tell
where it is (the token would be told as well), to be framed, and to be kept on disk.
"""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEADERS", "Gate"]

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_READING = ("GET", "HEAD")


class Gate:
    """Refuses what isn't from the page; hands on the rest without the token.

    Parameters
    ----------
    app : ASGI application
    token : str
    port : int
        On which this server listens.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":  # no websockets here
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        _, token, *rest = [*scope["path"].split("/", 2), ""][:3]
        refused = self._refusal(scope["method"], token, Headers(scope=scope))
        if refused is not None:
            await JSONResponse({"error": refused}, 403)(scope, receive, guarded)
            return
        await self._app({**scope, "path": f"/{rest[0]}"}, receive, guarded)

    def _refusal(self, method: str, token: str, headers: Headers) -> str | None:
        """Say why a request isn't answered."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return "this server answers to 127.0.0.1 and localhost only"
        if not hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self._token):
            return "open the page by the address that explgraph teach printed, token and all"
        if method not in _READING:
            if headers.getlist("origin") != [f"http://{hosts[0]}"]:
                return "answers are taken from this server's own page only"
            if headers.get("sec-fetch-site", "same-origin") != "same-origin":
                return "answers are taken from this server's own page only"
        return None
