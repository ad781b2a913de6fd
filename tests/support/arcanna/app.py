"""The documented endpoints."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader

from tests.support.arcanna.access import (
    API_KEY_HEADER,
    READ_SCOPE,
    RECOMPUTE_SCOPE,
    RESOURCES_SCOPE,
    KeyInfo,
    valid_key,
)
from tests.support.arcanna.platform import Platform, iso_utc
from tests.support.arcanna.schemas import (
    ApiError,
    Error,
    Health,
    JobAndLatestModelMetrics,
    JobMetrics,
    ModelMetrics,
    RecomputeAccepted,
    Resource,
)

PARAMETER_NAMES = {"job_id": "Job ID", "model_id": "Model ID"}
REFUSALS: dict[int | str, dict[str, Any]] = {403: {"model": Error}, 404: {"model": Error}}


async def the_platform(request: Request) -> Platform:
    platform = request.app.state.platform
    assert isinstance(platform, Platform)
    return platform


ThePlatform = Annotated[Platform, Depends(the_platform)]
JobReference = Annotated[str, Query(min_length=1, description="id or name of the job")]
ModelId = Annotated[str, Query(min_length=1, description="id of the model")]
KeyHeader = Annotated[str | None, Security(APIKeyHeader(name=API_KEY_HEADER, auto_error=False))]


async def authorised(platform: ThePlatform, key: KeyHeader) -> KeyInfo:
    info = valid_key(platform.api_keys, key)
    if info is None:
        raise ApiError(401, "Unauthorized", "The API key is missing, unknown or expired")
    return info


def requires(scope: str) -> Any:
    async def check(info: Annotated[KeyInfo, Depends(authorised)]) -> None:
        if not info.allows(scope):
            raise ApiError(403, "Forbidden", f"The API key lacks the scope '{scope}'")

    return Depends(check)


routes = APIRouter(prefix="/api/v2", responses={401: {"model": Error}})


@routes.post(
    "/metrics/model/request_recompute_metrics",
    dependencies=[requires(RECOMPUTE_SCOPE)],
    responses=REFUSALS,
)
async def request_recompute_metrics(
    platform: ThePlatform, job_id: JobReference, model_id: ModelId
) -> RecomputeAccepted:
    model, status = platform.request_recompute(job_id, model_id, by="api")
    return RecomputeAccepted(
        message="Metrics recomputation initiated successfully",
        job_id=model.job_id,
        model_id=model.model_id,
        status=status,
        requested_at=iso_utc(platform.now()),
    )


@routes.get("/metrics/model", dependencies=[requires(READ_SCOPE)], responses=REFUSALS)
async def model_metrics(platform: ThePlatform, job_id: JobReference, model_id: ModelId) -> ModelMetrics:
    return platform.model_metrics(job_id, model_id)


@dataclass
class DateRange:
    """Dates and filters are validated and echoed. They select nothing, because alerts here have no time."""

    start_datetime: datetime | None = None
    end_datetime: datetime | None = None

    def shown(self) -> dict[str, str | None]:
        dates = {"start_time": self.start_datetime, "end_time": self.end_datetime}
        return {name: date.isoformat() if date else None for name, date in dates.items()}


TheDateRange = Annotated[DateRange, Depends()]
Filters = Annotated[dict[str, Any] | None, Body()]


@routes.get("/metrics/job", dependencies=[requires(READ_SCOPE)], responses=REFUSALS)
@routes.post("/metrics/job", dependencies=[requires(READ_SCOPE)], responses=REFUSALS)
async def job_metrics(
    platform: ThePlatform, job_id: JobReference, dates: TheDateRange, filters: Filters = None
) -> JobMetrics:
    """Both methods exist because the vendor's clients use both."""
    return platform.job_metrics(job_id).model_copy(update=dates.shown())


@routes.get("/metrics/job_and_latest_model", dependencies=[requires(READ_SCOPE)], responses=REFUSALS)
@routes.post("/metrics/job_and_latest_model", dependencies=[requires(READ_SCOPE)], responses=REFUSALS)
async def job_and_latest_model(
    platform: ThePlatform,
    job_id: JobReference,
    dates: TheDateRange,
    timeout_s: Annotated[float, Query(gt=0)] = 120.0,
    filters: Filters = None,
) -> JobAndLatestModelMetrics:
    """Answers at once, whatever `timeout_s`."""
    return platform.job_and_latest_model(job_id).model_copy(update=dates.shown())


@routes.get("/resources", dependencies=[requires(RESOURCES_SCOPE)], responses={403: {"model": Error}})
async def resources(
    platform: ThePlatform,
    resource_type: Literal["api_key", "integration", "job"] | None = None,
    title: str | None = None,
) -> list[Resource]:
    """Jobs are the only resources."""
    return platform.jobs(title) if resource_type in (None, "job") else []


@routes.get("/token/scopes")
async def token_scopes(info: Annotated[KeyInfo, Depends(authorised)]) -> list[str]:
    return sorted(info.scopes)


@routes.get("/health/", dependencies=[Depends(authorised)])
async def health() -> Health:
    return Health(status="OK")


async def answer_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body.model_dump(), error.status)


async def answer_validation_error(_: Request, error: Exception) -> JSONResponse:
    """Uses the documented message for a missing or empty parameter, and FastAPI's message otherwise."""
    assert isinstance(error, RequestValidationError)
    detail = [
        {"loc": found["loc"], "msg": found["msg"], "type": found["type"]}
        if (name := PARAMETER_NAMES.get(found["loc"][-1])) is None
        else {"loc": found["loc"], "msg": f"{name} is required", "type": "value_error"}
        for found in error.errors()
    ]
    return JSONResponse({"detail": detail}, 422)
