"""A worker's half of the connector: moves chunks between its blocks and the daemon."""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from .client import Client
from .report import Report
from .vllm_loading import Loading, Piece, Share
from .vllm_messages import Load, Save, StepMetadata
from .vllm_options import MIB, Options
from .vllm_parts import WorkerPart
from .vllm_store_queue import Chunk, StoreQueue

THREADS = 4
"""Fetches in flight; the daemon decodes the chunks of each in parallel."""

FLUSH_S = 5.0
"""What a stopping engine waits for chunks that are not stored yet."""

log = logging.getLogger(__name__)


@dataclass
class Gather:
    """One part of a chunk that is being copied out, layer by layer."""

    save: Save
    part: WorkerPart
    data: torch.Tensor
    """[layers, bytes of a layer], on the cache's device."""
    copied: int = 0
    """Layers that are in it. With one missing it must not be stored."""


@dataclass(frozen=True)
class Ended:
    """What has become of the loads between steps."""

    requests: set[str]
    failed: set[str]
    blocks: set[int]
    """Of the failed ones."""


class WorkerHalf:
    """Used from the worker's thread only, which waits for nothing but the layers of its own loads."""

    def __init__(self, client: Client, options: Options, parts: Sequence[WorkerPart], block_tokens: Sequence[int]) -> None:
        self._client = client
        self._chunk_tokens = options.chunk_tokens
        self._parts = parts
        self._block_tokens = block_tokens
        self._places = {layer.name: (part, index) for part in parts for index, layer in enumerate(part.layers)}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kvreel-load")
        self._queue = StoreQueue(client, options.store_queue_mb * MIB)
        self._report = Report(log)
        self._in_step: list[Loading] = []
        self._between_steps: dict[str, Loading] = {}
        self._gathers: list[Gather] = []
        self._failed_blocks: set[int] = set()
        self._failures = 0
        self.discarded = 0
        """Chunks that were not stored because a load had failed in the step that computed them, or not all layers came by."""

    def begin_step(self, step: StepMetadata) -> None:
        """Begins the loads and makes room for the saves."""
        for load in step.loads:
            loading = Loading(self._client, self._shares(load), time.monotonic() + load.deadline_s, load.is_layerwise)
            if load.is_layerwise:
                self._in_step.append(loading)
            else:
                self._between_steps[load.request] = loading
            loading.begin(self._threads)

    def wait(self, layer: str) -> None:
        for loading in self._in_step:
            loading.wait(layer)

    def save(self, layer: str, step: StepMetadata) -> None:
        """Copies a layer of the chunks that this step completes."""
        place = self._places.get(layer)
        if place is None or not step.saves:
            return
        part, index = place
        if index == 0:
            self._gathers += [gather for save in step.saves if (gather := self._room(save, part))]
        group = part.layers[index].group
        for gather in self._gathers:
            if gather.part is part:
                read = part.read(index, gather.save.blocks[group])
                gather.data[index].view(part.dtype).view(read.shape).copy_(read)
                gather.copied += 1

    def end_step(self, step: StepMetadata) -> None:
        """Ends the step's loads, and hands over what was saved if it was computed from what should have been there."""
        loadings, self._in_step = self._in_step, []
        failed = [block for loading in loadings for block in loading.end()]
        if failed:
            self._failures += 1
            self._failed_blocks.update(failed)
        gathers, self._gathers = self._gathers, []
        # Until the scheduler knows of a failure it goes on from blocks that hold garbage.
        if step.failures_known < self._failures:
            self.discarded += len(gathers)
            return
        for gather in gathers:
            save = gather.save
            if gather.copied < len(gather.part.layers):
                self.discarded += 1
                continue
            self._queue.put(Chunk(gather.part.part.space(save.adapter, save.salt), save.hash, save.start, gather.data.cpu()))

    def ended_loads(self) -> Ended:
        """Loads between steps that are over."""
        ended = Ended(set(), set(), set())
        for request, loading in list(self._between_steps.items()):
            if loading.is_done:
                del self._between_steps[request]
                ended.requests.add(request)
                if blocks := loading.end():
                    ended.failed.add(request)
                    ended.blocks.update(blocks)
        return ended

    def report_blocks(self, blocks: set[int]) -> None:
        """Has blocks of failed loads between steps reported with those of this step."""
        self._failed_blocks |= blocks

    def failed_blocks(self) -> set[int]:
        """Blocks that loads should have filled, since this was last asked."""
        blocks, self._failed_blocks = self._failed_blocks, set()
        return blocks

    def close(self) -> None:
        for loading in [*self._in_step, *self._between_steps.values()]:
            loading.end()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._queue.close(FLUSH_S)

    def _shares(self, load: Load) -> list[Share]:
        shares = []
        for part in self._parts:
            pieces = [self._piece(load, load.first + place, hash) for place, hash in enumerate(load.hashes)]
            groups = set(part.part.groups)
            wanted = [piece for piece in pieces if any(block > 0 for group in groups for block in piece.blocks[group])]
            if wanted:
                shares.append(Share(part, part.part.space(load.adapter, load.salt), wanted))
        return shares

    def _piece(self, load: Load, number: int, hash: str) -> Piece:
        """A chunk with the blocks to fill: from where the engine has no tokens of its own."""
        groups = []
        for ids, tokens in zip(load.blocks, self._block_tokens, strict=True):
            per_chunk = self._chunk_tokens // tokens
            begin = load.begin // tokens
            places = range(number * per_chunk, (number + 1) * per_chunk)
            groups.append(tuple(ids[place] if begin <= place < len(ids) else 0 for place in places))
        return Piece(number, hash, tuple(groups))

    def _room(self, save: Save, part: WorkerPart) -> Gather | None:
        """Memory for a part of a chunk; none where the engine has let go of some of it, or the daemon is behind."""
        if any(block <= 0 for group in set(part.part.groups) for block in save.blocks[group]):
            return None
        size = len(save.blocks[part.layers[0].group]) * part.block_bytes
        if not self._queue.has_room(len(part.layers) * size):
            return None
        device = part.layers[0].pages.device
        return Gather(save, part, torch.empty((len(part.layers), size), dtype=torch.uint8, device=device))
