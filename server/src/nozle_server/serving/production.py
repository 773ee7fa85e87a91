"""The long-running commands `serve` and `worker`."""

from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

from nozle_server.api.app import build_app
from nozle_server.api.server import serve as serve_http
from nozle_server.bootstrap import background, build_services, open_database
from nozle_server.core.clock import SystemClock
from nozle_server.infra.database import Database
from nozle_server.infra.settings import Settings
from nozle_server.serving.stopping import Stop, Stopped, stop_signals
from nozle_server.serving.workers import Workers

Notice = Callable[[str], None]


async def serve(settings: Settings, *, notice: Notice) -> None:
    """API and jobs, until SIGTERM or SIGINT."""
    with suppress(Stopped), stop_signals() as stop:
        async with AsyncExitStack() as stack:
            workers = stack.enter_context(Workers(settings)) if settings.workers > 1 else None
            with stop.interrupts():
                database = await stack.enter_async_context(open_database(settings, notice=notice))
            await answer_requests(
                database,
                settings,
                stop,
                workers=workers,
                on_listening=lambda url: notice(f"Nozle is serving at {url}"),
            )


async def work(settings: Settings, *, notice: Notice) -> None:
    """Jobs alone, until SIGTERM or SIGINT."""
    with suppress(Stopped), stop_signals() as stop:
        async with AsyncExitStack() as stack:
            with stop.interrupts():
                database = await stack.enter_async_context(open_database(settings, notice=notice))
            services = build_services(database, settings, SystemClock())
            async with background(services):
                notice("working")
                await stop.event.wait()


async def answer_requests(
    database: Database,
    settings: Settings,
    stop: Stop,
    *,
    workers: Workers | None,
    on_listening: Callable[[str], None],
) -> None:
    """Answer requests and do jobs until told to stop, in this process or in several; returns when the last answer is out.

    `on_listening` is told the URL. OSError when the address cannot be had; WorkerFailed.
    """
    if workers is not None:
        await workers.serve(database.url, stop, on_listening)
        return
    services = build_services(database, settings, SystemClock())
    async with background(services):
        await serve_http(
            build_app(services),
            host=settings.host,
            port=settings.port,
            stop=stop.event,
            on_listening=on_listening,
        )
