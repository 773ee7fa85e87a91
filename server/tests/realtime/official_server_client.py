"""What Centrifugo's official client for the server API (`cent`) knows of requests, as a judge of ours: it accepts unknown
fields, so that they are looked for here."""

import inspect
import json
from typing import Any

import cent
from cent import dto
from pydantic import BaseModel

from .fake_centrifugo import KEY, Request

METHODS: dict[str, type[dto.CentRequest[Any]]] = {
    one.__api_method__: one
    for one in vars(dto).values()
    if inspect.isclass(one)
    and issubclass(one, dto.CentRequest)
    and isinstance(getattr(one, "__api_method__", None), str)
}


def check(request: Request) -> None:
    """AssertionError, or pydantic's ValidationError, where the official client would not have sent it so."""
    assert request.path == f"/api/{cent.BatchRequest.__api_method__}"
    assert request.headers["X-API-Key"] == KEY
    assert request.headers["Content-Type"] == "application/json"
    body = json.loads(request.body)
    sent = cent.BatchRequest(requests=[_read(command) for command in body["commands"]])
    assert {"parallel": False, **body} == sent.api_payload


def _read(command: dict[str, Any]) -> dto.CentRequest[Any]:
    [(method, fields)] = command.items()
    read = METHODS[method].model_validate(fields, strict=True)
    _no_others(read)
    return read


def _no_others(model: BaseModel) -> None:
    """No field that the model does not name, however deep."""
    assert not model.model_extra, f"{type(model).__name__} has no {sorted(model.model_extra)}"
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            _no_others(value)
