"""In Prefect's own Python: runs of the flow for each entity of each line of standard input, `{"entities": [...]}`.

Arguments: `deployment ID`: they are scheduled, for a worker to start a process each. `threads N`: they are carried out here, N at
once, before the line is answered; a crash of one is a crash of all.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import UUID

from months import month
from prefect.client.orchestration import get_client

AT_A_TIME = 10
"""Requests under way."""


def scheduled(deployment: str, entities: Sequence[str]) -> None:
    async def all_of_them() -> None:
        turns = asyncio.Semaphore(AT_A_TIME)
        async with get_client() as client:

            async def one(entity: str) -> None:
                async with turns:
                    await client.create_flow_run_from_deployment(UUID(deployment), parameters={"entity": entity})

            await asyncio.gather(*map(one, entities))

    asyncio.run(all_of_them())


def in_threads(number: str, entities: Sequence[str]) -> None:
    with ThreadPoolExecutor(int(number)) as threads:
        list(threads.map(partial(month, return_state=True), entities))


WAYS: dict[str, Callable[[str, Sequence[str]], None]] = {"deployment": scheduled, "threads": in_threads}


def main(way: str, argument: str) -> None:
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        entities = json.loads(line)["entities"]
        WAYS[way](argument, entities)
        print(json.dumps(len(entities)), flush=True)


main(*sys.argv[1:])
