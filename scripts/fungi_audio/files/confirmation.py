"""The page that stands before a large file on Google Drive ("cannot scan this file for viruses"), and its form."""

from html.parser import HTMLParser
from itertools import islice
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import requests

from ..errors import StorageError

FORM = "download-form"  # its id
REASON = "uc-error-subcaption"  # class of the sentence that says why there is no file
LONGEST = 300  # characters of that sentence
TIMEOUT = 60.0
CHUNKS = 16  # of 64 KiB, at most, of a page


class _Page(HTMLParser):
    """The form's address and hidden fields, and the reason, of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action, self.fields, self.reason = "", dict[str, str](), ""
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and given.get("id") == FORM:
            self.inside, self.action = FORM, given.get("action", "")
        elif tag == "input" and self.inside == FORM and given.get("type") == "hidden" and "name" in given:
            self.fields[given["name"]] = given.get("value", "")
        elif REASON in given.get("class", "").split():
            self.inside = REASON

    def handle_endtag(self, tag: str) -> None:
        if tag == "form" or self.inside == REASON:
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == REASON:
            self.reason += data


def follow(
    session: requests.Session, response: requests.Response, name: str, headers: dict[str, str]
) -> requests.Response:
    """The answer itself; where it is the page before a file, the answer to the page's form.

    Args:
        name: of what was asked for, for messages.
        headers: of the request; the form may lead to another host and gets no authorization.

    Raises:
        StorageError: another page; what it gives as the reason.
    """
    if not (response.ok and is_page(response)):
        return response
    with response:
        content = b"".join(islice(response.iter_content(1 << 16), CHUNKS)).decode(errors="replace")
    page = _Page(content)
    if page.action:
        parts = urlsplit(urljoin(response.url, page.action))
        address = urlunsplit(parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | page.fields)))
        return session.get(address, headers={**headers, "Authorization": None}, stream=True, timeout=TIMEOUT)
    said = "".join(character for character in " ".join(page.reason.split()) if character.isprintable())[:LONGEST]
    raise StorageError(
        f"{name} is a web page, not a file; use the address of the download itself"
        + (f". The page says: {said}" if said else "")
    )


def is_page(response: requests.Response) -> bool:
    return response.headers.get("Content-Type", "").startswith("text/html")
