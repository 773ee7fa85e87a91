"""A merchant who comes from Lago: the published client as it is, pointed at our server, and the few things beside it.

The client is synchronous, and so are these tests: the server is a process of its own on a real socket.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from lago_python_client import Client
from lago_python_client.exceptions import LagoApiError
from lago_python_client.services.response import prepare_index_response
from pydantic.v1 import BaseModel

JsonObject = dict[str, Any]
# What a list tells of its pages when everything fits on the first.
ONE_PAGE = {"current_page": 1, "next_page": None, "prev_page": None, "total_pages": 1}


@dataclass(frozen=True)
class Shop:
    """An organization in test mode; `lago` is the published client with its secret key."""

    lago: Client
    url: str
    key: str

    def call(self, method: str, path: str, body: object = None) -> Any:
        """JSON of a call that the client has no method for, or of the bare answer behind one that it has."""
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = httpx.request(method, self.url + path, json=body, headers=headers, timeout=60)
        assert answer.status_code == 200, (method, path, answer.status_code, answer.text[:1000])
        return answer.json()

    def core(self, path: str) -> Any:
        """JSON that Core answers to a GET."""
        return self.call("GET", "/core/api/v1" + path)

    def turn(self, when: str) -> None:
        """Turn the test clock, and with it everything that falls due until then."""
        now = when if "T" in when else when + "T00:00:00Z"
        self.call("POST", "/api/v1/test-clock", {"now": now})


def shows(answer: BaseModel, **wanted: object) -> None:
    """The parsed answer has these values."""
    shown = {name: getattr(answer, name) for name in wanted}
    assert shown == wanted


def echoes(answer: BaseModel, sent: BaseModel, *, but: tuple[str, ...] = ()) -> None:
    """Every value of what was sent that the answer has a field for came back."""
    given = {name: value for name, value in sent.dict(exclude_none=True).items() if name not in but}
    shown = answer.dict()
    compared = {name: value for name, value in given.items() if name in shown}
    assert compared
    assert {name: shown[name] for name in compared} == compared


def listed(answer: Mapping[str, Any], resource: str) -> list[Any]:
    """The objects of a list that fits on one page."""
    found = list(answer[resource])
    assert answer["meta"] == {**ONE_PAGE, "total_pages": 1 if found else 0, "total_count": len(found)}
    return found


@contextmanager
def refused(status: int, code: str | None = None) -> Iterator[LagoApiError]:
    """The call ends with this status, and for a 422 with Lago's form of errors."""
    with pytest.raises(LagoApiError) as caught:
        yield caught  # type: ignore[misc]
    error = caught.value
    assert error.status_code == status, error.response
    assert error.response["status"] == status
    if code is not None:
        assert error.response["code"] == code


def children(shop: Shop, client: Any, parent: str, **query: object) -> list[Any]:
    """What `client.find_all(parent)` is meant to give. As published it forgets to send its key, which any server must
    refuse; so the key is added here, and the answer read by the client's own models."""
    with refused(401):
        client.find_all(parent)
    path = f"/{client.PARENT_API_RESOURCE}/{parent}/{client.API_RESOURCE}"
    answer = shop.core(f"{path}?{urlencode(query)}" if query else path)
    resource, model = client.API_RESOURCE, client.RESPONSE_MODEL
    return listed(prepare_index_response(resource, model, answer), resource)
