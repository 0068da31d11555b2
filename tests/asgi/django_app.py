"""Django; see tests.asgi. It needs asyncio, and has neither WebSockets nor a lifespan of its own."""

from __future__ import annotations

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path

from tests.asgi.starlette_app import parts

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="of a test")


async def json(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"name": request.GET["name"]})


def form(request: HttpRequest) -> JsonResponse:
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "size": file.size})


async def endless(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts())


urlpatterns = [path("json", json), path("form", form), path("endless", endless)]
app = get_asgi_application()
