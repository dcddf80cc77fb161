# SPDX-License-Identifier: Apache-2.0
"""Who may see the page: this machine's own browsers, or whoever has the token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
import hmac
from ipaddress import ip_address
import secrets

from aiohttp import hdrs, web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_TOKEN = 'token'
_HEADERS = {
    'Content-Security-Policy': (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
    ),
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
}


def is_loopback(host: str) -> bool:
    """Return whether an address is one that only this machine reaches."""
    try:
        return ip_address(host.strip('[]')).is_loopback
    except ValueError:
        return host == 'localhost'


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(24)


async def limit_browsers(request: web.Request, response: web.StreamResponse) -> None:
    """Tell browsers what the page may load, and that no other page may show it."""
    response.headers.update(_HEADERS)


class Access:
    """Lets requests pass or refuses them."""

    def __init__(self, token: str | None) -> None:
        """Demand a token; None: demand that the page is asked for by a name of this machine.

        The latter, as a page of another host may have its name lead here, and read what it gets.
        """
        self._token = token

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what has no right."""
        # A browser says so when a page of another host asks; nothing else says anything.
        if request.headers.get('Sec-Fetch-Site', 'none') == 'cross-site' and request.path != '/':
            raise web.HTTPForbidden(text='asked by a page of another host\n')
        token = self._token
        if token is None:
            if not is_loopback(request.url.host or ''):
                raise web.HTTPForbidden(
                    text='ask for this page as localhost, or start it with --host\n'
                )
            return await handler(request)
        cookie = f'multishift_view_{request.url.port}'
        given = request.query.get(_TOKEN)
        if given is not None and request.path == '/' and _is(given, token):
            # The token leaves the address bar, and whatever remembers that.
            moved = web.HTTPFound('.')
            moved.set_cookie(cookie, given, httponly=True, samesite='Lax')
            raise moved
        bearer = request.headers.get(hdrs.AUTHORIZATION, '').removeprefix('Bearer ')
        if not any(_is(word, token) for word in (request.cookies.get(cookie), given, bearer)):
            raise web.HTTPUnauthorized(
                text='the token is missing or wrong: take the URL that `multishift view` printed\n'
            )
        return await handler(request)


def _is(given: str | None, token: str) -> bool:
    return hmac.compare_digest((given or '').encode(), token.encode())
