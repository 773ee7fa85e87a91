"""Administration of a running server."""

from nozle_server.api.endpoint import Call, Endpoint, Example, Scope

_RELOADED = {"ok": True, "message": "caches reloaded", "reloaded": ["plans", "entitlements", "cost_models"]}


async def reload(call: Call) -> object:
    await call.services.reload(call.tx, call.org_id)
    return _RELOADED


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/admin/reload",
        handler=reload,
        scope=Scope.SECRET,
        summary="Drop all caches",
        description="Every process reads plans, entitlements and cost models of the organization afresh.",
        tag="Utility",
        reply_schema={
            "type": "object",
            "required": ["ok", "message", "reloaded"],
            "properties": {
                "ok": {"type": "boolean"},
                "message": {"type": "string"},
                "reloaded": {"type": "array", "items": {"type": "string"}},
            },
        },
        example=Example(response=_RELOADED),
    ),
)
