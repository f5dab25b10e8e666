"""The scheduler's half between steps that compute, with vLLM's own scheduler output."""

import time
from types import SimpleNamespace

import pytest
from kvreel.client import Client
from kvreel.vllm_options import Options
from kvreel.vllm_scheduler import IDLE_S, SchedulerHalf
from vllm.v1.core.sched.output import SchedulerOutput


@pytest.fixture
def half(address):
    cache = SimpleNamespace(kv_cache_groups=[], hash_block_size=32)
    half = SchedulerHalf(Client(address), Options(address=address), cache, may_load=True, may_save=False, is_layerwise=False)
    half.know_parts([SimpleNamespace(window=None, space=lambda adapter, salt: None)])
    yield half
    half.close()


@pytest.fixture
def slept(monkeypatch):
    """Seconds of each sleep."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def step_of(tokens):
    output = SchedulerOutput.make_empty()
    output.total_num_scheduled_tokens = tokens
    return output


def short_request():
    """Shorter than a chunk: nothing to look up."""
    return SimpleNamespace(request_id="a", num_tokens=10, lora_request=None, cache_salt=None)


def test_a_step_that_computes_nothing_leaves_the_processor_to_the_load_that_is_waited_for(half, slept):
    half.add(short_request())
    half.plan_step(step_of(0))
    half.plan_step(step_of(0))
    assert slept == [IDLE_S, IDLE_S]
    half.finish("a")
    half.plan_step(step_of(0))
    assert len(slept) == 2  # nobody waits


def test_a_step_that_computes_or_begins_a_load_is_not_held_up(half, slept):
    half.add(short_request())
    half.plan_step(step_of(1))
    half._loads.append("a load")
    assert half.plan_step(step_of(0)).loads == ["a load"]
    assert slept == []
