"""The scheduler's half of the connector: which chunks a request can load, which it completes. Never waits for the daemon."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.request import Request

from .client import Client
from .edge import never_raises
from .report import Report
from .vllm_lookups import Lookup, Lookups
from .vllm_messages import Load, Save, StepMetadata
from .vllm_options import Options
from .vllm_parts import Part

_report = Report(logging.getLogger(__name__))

LOOKUP_SHARE = 0.5
"""Of the deadline so much is for finding out, from the request's arrival on, and the rest for loading, from its turn on."""

IDLE_S = 0.002
"""What a step that computes nothing takes while a request waits: the engine asks again and again, and would leave the others no processor."""


@dataclass
class Known:
    """What the scheduler's half knows of one request."""

    request: Request
    lookup: Lookup | None
    computed: int = 0
    """Tokens that the engine had when it was last told what can be loaded."""
    next_save: int | None = None
    """Number of the first chunk that is not saved yet; None before the first step."""
    loaded_at: int | None = None
    """The request's count of preemptions when it was last given a load: a load that failed is not tried again."""


class SchedulerHalf:
    """Plans loads and saves. Used from the scheduler's thread only."""

    def __init__(self, client: Client, options: Options, cache: KVCacheConfig, may_load: bool, may_save: bool, is_layerwise: bool) -> None:
        self._deadline_s = options.deadline_ms / 1000
        self._chunk_tokens = options.chunk_tokens
        self._block_tokens = [group.kv_cache_spec.block_size for group in cache.kv_cache_groups]
        self._hash_tokens = cache.hash_block_size or min(self._block_tokens)
        self._may_load = may_load
        self._may_save = may_save
        self._is_layerwise = is_layerwise
        self._parts: Sequence[Part] = ()
        self._lookups = Lookups(client, options.chunk_tokens)
        self._requests: dict[str, Known] = {}
        self._loads: list[Load] = []
        self._failures = 0

    def know_parts(self, parts: Sequence[Part]) -> None:
        """Of all workers. Before this nothing is found or saved."""
        self._parts = parts

    def add(self, request: Request) -> None:
        """Begins the lookup of a new request."""
        if not self._parts:
            return
        hashes = [self._hash(request, chunk) for chunk in range((request.num_tokens - 1) // self._chunk_tokens)]
        lookup = None
        if hashes and self._may_load:
            adapter, salt = _tenant(request)
            spaces = [(part.space(adapter, salt), part.window) for part in self._parts]
            lookup = self._lookups.begin(hashes, spaces, time.monotonic() + self._deadline_s * LOOKUP_SHARE)
        self._requests[request.request_id] = Known(request, lookup)

    def matched_tokens(self, request: Request, computed: int) -> tuple[int | None, bool]:
        """Tokens beyond `computed` that can be loaded; None: ask again."""
        known = self._requests.get(request.request_id)
        if known is None or known.lookup is None or known.loaded_at == request.num_preemptions:
            return 0, False
        chunks = self._lookups.chunks(known.lookup, computed // self._chunk_tokens)
        if chunks is None:
            return None, False
        known.computed = computed
        tokens = chunks * self._chunk_tokens - computed
        return (tokens, not self._is_layerwise) if tokens > 0 else (0, False)

    def allocated(self, request: Request, blocks: Sequence[Sequence[int]], tokens: int) -> None:
        """The engine has given the request blocks for `tokens` to load."""
        known = self._requests.get(request.request_id)
        if known is None or known.lookup is None or tokens <= 0:
            return
        known.loaded_at = request.num_preemptions
        begin, end = known.computed, known.computed + tokens
        first = begin // self._chunk_tokens
        adapter, salt = _tenant(request)
        self._loads.append(
            Load(
                request.request_id,
                adapter,
                salt,
                first,
                tuple(known.lookup.hashes[first : -(-end // self._chunk_tokens)]),
                begin,
                tuple(tuple(ids[: end // size]) for ids, size in zip(blocks, self._block_tokens, strict=True)),
                self._deadline_s * (1 - LOOKUP_SHARE),
                self._is_layerwise,
            )
        )

    def plan_step(self, output: SchedulerOutput) -> StepMetadata:
        """What this step loads and saves."""
        if self._requests and not self._loads and output.total_num_scheduled_tokens == 0:
            time.sleep(IDLE_S)
        loads, self._loads = self._loads, []
        return StepMetadata(loads, self._saves(output) if self._may_save else [], self._failures)

    def failed(self) -> None:
        """The workers said that blocks were not loaded, and the engine has gone back to before them."""
        self._failures += 1

    def finish(self, request: str) -> None:
        self._requests.pop(request, None)

    def close(self) -> None:
        self._lookups.close()

    @never_raises(_report, lambda *_: [])
    def _saves(self, output: SchedulerOutput) -> list[Save]:
        cached = output.scheduled_cached_reqs
        computed = dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        computed |= {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
        state = output.kv_connector_block_state
        saves: list[Save] = []
        for name, begin in computed.items():
            known = self._requests.get(name)
            if known is None or state is None:
                continue
            end = begin + output.num_scheduled_tokens.get(name, 0)
            # After a failed load the engine goes back, and computes chunks again.
            reached = begin // self._chunk_tokens
            known.next_save = reached if known.next_save is None else min(known.next_save, reached)
            if end // self._chunk_tokens > known.next_save:
                blocks = state.resolve_block_ids(name)
                known.next_save = self._save_until(end, known.request, known.next_save, blocks, saves)
        return saves

    def _save_until(self, end: int, request: Request, chunk: int, blocks: Sequence[Sequence[int]], saves: list[Save]) -> int:
        """Adds the chunks that end by `end`, as far as their hashes are known: that of a token sampled in a step still under way is not."""
        adapter, salt = _tenant(request)
        size = self._chunk_tokens
        while (chunk + 1) * size <= min(end, len(request.block_hashes) * self._hash_tokens):
            ids = tuple(
                tuple(group[chunk * size // tokens : (chunk + 1) * size // tokens])
                for group, tokens in zip(blocks, self._block_tokens, strict=True)
            )
            saves.append(Save(adapter, salt, self._hash(request, chunk), chunk * size, ids))
            chunk += 1
        return chunk

    def _hash(self, request: Request, chunk: int) -> str:
        """The engine's own hash of the chunk's last block, which covers all tokens before it as well."""
        return request.block_hashes[(chunk + 1) * self._chunk_tokens // self._hash_tokens - 1].hex()


def _tenant(request: Request) -> tuple[str | None, str | None]:
    """Adapter and salt."""
    return request.lora_request.lora_name if request.lora_request else None, request.cache_salt
