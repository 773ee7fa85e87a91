"""`can()` over HTTP, beside servers that answer the same bytes without thinking."""

from contextlib import AsyncExitStack

from harness import client, tools
from harness.bench import Bench, main
from harness.constant import bare_asgi, nginx_return
from harness.load import Load
from harness.report import Figure, Yardstick
from harness.traffic import Traffic, get
from harness.world import customer_names, enrol, send_events

PLAN = "free"  # the one with a limit


async def measure(bench: Bench) -> None:
    """Ask about 1,000 customers in random order, each with some usage."""
    server = bench.server
    organization = await server.open_organization("bench")
    names = customer_names()
    await enrol(server, organization, names, plan=PLAN)
    await send_events(server, organization, names)
    questions = [get(f"/api/v1/can?customer_id={name}&feature=chat", organization.key) for name in names]
    [answer] = await client.send_all_good(server.port, questions[:1])
    bench.report.begin(f"can() over HTTP: {len(names):,} customers, requests/s")
    async with AsyncExitStack() as stack:
        constant = {"bare ASGI server": await stack.enter_async_context(bare_asgi(answer.body))}
        nginx = tools.find("nginx")
        if nginx is not None:
            constant["nginx return"] = await stack.enter_async_context(nginx_return(nginx, answer.body))
        traffic, product = Traffic(questions), Load(server.port)
        for connections in bench.connections:
            measured = await product.measure(traffic, connections=connections, seconds=bench.seconds)
            yardsticks = [
                Yardstick(
                    name, await Load(port).measure(traffic, connections=connections, seconds=bench.seconds)
                )
                for name, port in constant.items()
            ]
            if nginx is None:
                yardsticks.append(Yardstick("nginx return", skipped="nginx is not installed"))
            for yardstick in yardsticks:
                bench.report.add(
                    Figure(f"can_c{connections}", "requests/s", connections, measured, yardstick)
                )


if __name__ == "__main__":
    main(measure, description=__doc__)
