"""vLLM's KV connector: `"kv_connector": "KvreelConnector", "kv_connector_module_path": "kvreel.vllm_connector"`.

With one cache group and one worker a prefix is loaded within the step that needs it, layer by layer. With several groups (models with
sliding windows) or workers it is loaded between steps, because only there vLLM can take a failed load back.
"""

import logging
from typing import TYPE_CHECKING, Any

import torch
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorTransferResults,
    SupportsHMA,
)
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.outputs import KVConnectorOutput

from .client import Client
from .edge import never_raises
from .report import Report
from .vllm_messages import Handshake, StepMetadata
from .vllm_options import Options
from .vllm_parts import parts_of, unstorable
from .vllm_scheduler import SchedulerHalf
from .vllm_worker import WorkerHalf

if TYPE_CHECKING:
    from vllm.forward_context import ForwardContext
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.request import Request

log = logging.getLogger(__name__)
_report = Report(log)


class KvreelConnector(KVConnectorBase_V1, SupportsHMA):
    """One half of it lives in the scheduler, one in each worker."""

    def __init__(self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        config = self._kv_transfer_config
        self._options = Options.from_config(config.kv_connector_extra_config)
        self._block_tokens = [group.kv_cache_spec.block_size for group in kv_cache_config.kv_cache_groups]
        for tokens in self._block_tokens:
            if self._options.chunk_tokens % tokens != 0:
                raise ValueError(
                    f"expected `chunk_tokens` to be a multiple of the engine's block of {tokens} tokens, got {self._options.chunk_tokens}"
                )
        self._client = Client(self._options.address, self._options.token)
        self._scheduler: SchedulerHalf | None = None
        self._worker: WorkerHalf | None = None
        self._parts: list[Any] = []
        self._reason = unstorable(kv_cache_config)
        is_layerwise = len(kv_cache_config.kv_cache_groups) == 1 and vllm_config.parallel_config.world_size == 1
        if role == KVConnectorRole.SCHEDULER:
            self._scheduler = SchedulerHalf(
                self._client, self._options, kv_cache_config, config.is_kv_consumer, config.is_kv_producer, is_layerwise
            )
            if self._reason is not None:
                log.warning("nothing of this model is stored or loaded: %s", self._reason)
            if config.is_kv_consumer and config.kv_load_failure_policy != "recompute":
                log.warning('a load that fails will fail its request: set "kv_load_failure_policy": "recompute" in the KV transfer config')

    # The worker's half.

    @never_raises(_report)
    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        if self._reason is not None:
            return
        options = self._options
        model = options.model or self._vllm_config.model_config.model
        self._parts = parts_of(self._vllm_config, self._kv_cache_config, kv_caches, options.chunk_tokens, model, options.quality)
        self._worker = WorkerHalf(self._client, options, self._parts, self._block_tokens)
        for part in self._parts:
            log.info("%d layers are stored as %s", len(part.layers), part.part.geometry)
            if part.form.order == "bytes":
                log.warning(
                    "the pages of %s are of a layout that is not understood: they are stored losslessly as bytes", part.layers[0].name
                )

    @never_raises(_report)
    def get_handshake_metadata(self) -> KVConnectorHandshakeMetadata | None:
        return Handshake([part.part for part in self._parts]) if self._parts else None

    def start_load_kv(self, forward_context: "ForwardContext", **kwargs: Any) -> None:
        step = self._step()
        if self._worker is not None and step is not None:
            self._worker.begin_step(step)

    def wait_for_layer_load(self, layer_name: str) -> None:
        if self._worker is not None:
            self._worker.wait(layer_name)

    @never_raises(_report)
    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        step = self._step()
        if self._worker is not None and step is not None:
            self._worker.save(layer_name, step)

    @never_raises(_report)
    def wait_for_save(self) -> None:
        step = self._step()
        if self._worker is not None and step is not None:
            self._worker.end_step(step)

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        if self._worker is None:
            return KVConnectorTransferResults()
        ended = self._worker.ended_loads()
        if len(self._block_tokens) == 1:
            self._worker.report_blocks(ended.blocks)
            return KVConnectorTransferResults(finished_recving=ended.requests)
        return KVConnectorTransferResults(finished_recving=ended.requests, failed_recving=ended.failed)

    def get_block_ids_with_load_errors(self) -> set[int]:
        return self._worker.failed_blocks() if self._worker is not None else set()

    # The scheduler's half.

    def set_xfer_handshake_metadata_pp_aware(self, metadata: dict[tuple[int, int], KVConnectorHandshakeMetadata]) -> None:
        if self._scheduler is not None:
            found = [worker for worker in metadata.values() if isinstance(worker, Handshake)]
            self._scheduler.know_parts([part for worker in found for part in worker.parts])

    @never_raises(_report)
    def on_new_request(self, request: "Request") -> None:
        if self._scheduler is not None:
            self._scheduler.add(request)

    @never_raises(_report, lambda *_: (0, False))
    def get_num_new_matched_tokens(self, request: "Request", num_computed_tokens: int) -> tuple[int | None, bool]:
        if self._scheduler is None:
            return 0, False
        return self._scheduler.matched_tokens(request, num_computed_tokens)

    # Not guarded, and neither is what takes its loads on: the engine counts on tokens that it was promised.
    def update_state_after_alloc(self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int) -> None:
        if self._scheduler is not None and num_external_tokens > 0:
            self._scheduler.allocated(request, blocks.get_block_ids(), num_external_tokens)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        return self._scheduler.plan_step(scheduler_output) if self._scheduler is not None else StepMetadata()

    @never_raises(_report)
    def update_connector_output(self, connector_output: KVConnectorOutput) -> None:
        if self._scheduler is not None and connector_output.invalid_block_ids:
            self._scheduler.failed()

    @never_raises(_report, lambda *_: (False, None))
    def request_finished(self, request: "Request", block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        return self.request_finished_all_groups(request, (block_ids,))

    @never_raises(_report, lambda *_: (False, None))
    def request_finished_all_groups(self, request: "Request", block_ids: tuple[list[int], ...]) -> tuple[bool, dict[str, Any] | None]:
        """Blocks may be freed at once: what is stored has been copied by then."""
        if self._scheduler is not None:
            self._scheduler.finish(request.request_id)
        return False, None

    # Both.

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        """A captured graph would leave out the calls between layers."""
        return True

    @property
    def requires_kv_delivery(self) -> bool:
        """What is not saved is a miss later on."""
        return False

    @never_raises(_report)
    def shutdown(self) -> None:
        if self._worker is not None:
            self._worker.close()
        if self._scheduler is not None:
            self._scheduler.close()
        self._client.close()

    def _step(self) -> StepMetadata | None:
        metadata = self._connector_metadata
        return metadata if isinstance(metadata, StepMetadata) else None
