"""Controls misbehaviour over HTTP, for people and for tests in other processes. The API lacks this."""

from fastapi import APIRouter, Request

from tests.support.arcanna.access import KeyInfo
from tests.support.arcanna.app import ThePlatform
from tests.support.arcanna.faults import Fault
from tests.support.arcanna.platform import Behaviour, Recompute

routes = APIRouter(prefix="/_reference", include_in_schema=False)


@routes.post("/faults", status_code=204)
async def add_fault(request: Request, fault: Fault) -> None:
    request.app.state.faults.add(fault)


@routes.delete("/faults", status_code=204)
async def clear_faults(request: Request) -> None:
    request.app.state.faults.clear()


@routes.put("/behaviour", status_code=204)
async def set_behaviour(platform: ThePlatform, behaviour: Behaviour, model_id: str | None = None) -> None:
    platform.set_behaviour(behaviour, model_id)


@routes.put("/api_keys", status_code=204)
async def set_api_keys(platform: ThePlatform, keys: dict[str, KeyInfo]) -> None:
    platform.api_keys = keys


@routes.put("/active_model", status_code=204)
async def set_active_model(platform: ThePlatform, job_id: str, model_id: str) -> None:
    platform.set_active_model(job_id, model_id)


@routes.delete("/model", status_code=204)
async def remove_model(platform: ThePlatform, job_id: str, model_id: str) -> None:
    platform.remove_model(job_id, model_id)


@routes.get("/recomputes")
async def recomputes(platform: ThePlatform) -> list[Recompute]:
    return platform.recomputes


@routes.post("/recomputes", status_code=204)
async def external_recompute(platform: ThePlatform, job_id: str, model_id: str) -> None:
    platform.request_recompute(job_id, model_id, by="somebody else")
