"""Several operators who replay or drop all dead letters at the same moment."""

from __future__ import annotations

import asyncio

import httpx

from tests.support.serving import Serving

DONE = {"replay": "replayed", "drop": "dropped"}


async def act_at_once(server: Serving, *verbs: str) -> list[list[str]]:
    """What each operator was told, as `<id> <died at>` of each letter. Each comes alone, and any gateway may answer."""

    async def one(verb: str) -> list[str]:
        async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
            answer = await client.post(f"{server.url}/system/dead-letters/{verb}", content=b'{"all": true}')
            assert answer.status_code == 200, answer.text
            return [f"{letter['id']} {letter['died_at']}" for letter in answer.json()[DONE[verb]]]

    return await asyncio.gather(*(one(verb) for verb in verbs))
