"""Loading into pages while layers wait, on a real daemon that is not always in time."""

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from kvreel.client import Client
from kvreel.vllm_layout import form_of, geometry_of
from kvreel.vllm_loading import Loading, Piece, Share, plan
from kvreel.vllm_parts import Layer, Part, WorkerPart

LAYERS, HEADS, BLOCK, SIZE = 16, 2, 32, 64
CHUNK_BLOCKS = 2


def part_of(model):
    form = form_of("CPU_ATTN", "vec", (HEADS, BLOCK, 2 * SIZE), SIZE, torch.float32)
    geometry = geometry_of(form, (HEADS, BLOCK, 2 * SIZE), torch.float32, LAYERS, None)
    layers = tuple(Layer(f"layers.{i}", 0, torch.zeros(12, HEADS, BLOCK, 2 * SIZE)) for i in range(LAYERS))
    return WorkerPart(Part((0,) * LAYERS, None, model, geometry, "test", None, None), form, layers, 1)


@pytest.fixture
def stored(address):
    """Three chunks in the daemon, and what they hold."""
    client = Client(address)
    source = part_of(f"model {os.urandom(8).hex()}")
    for layer in source.layers:
        layer.pages.normal_()
    space = source.part.space(None, None)
    pieces = [Piece(number, os.urandom(32).hex(), ((1 + 2 * number, 2 + 2 * number),)) for number in range(3)]
    for piece in pieces:
        data = torch.stack([source.read(layer, piece.blocks[0]).flatten() for layer in range(LAYERS)])
        assert client.store(space, [(piece.hash, memoryview(data.numpy()).cast("B"), None)]) == [True]
    return client, source, space, pieces


def load(client, source, space, pieces, seconds, is_layerwise=True):
    into = part_of(source.part.model)
    return into, Loading(client, [Share(into, space, pieces)], time.monotonic() + seconds, is_layerwise)


@pytest.mark.parametrize("is_layerwise", [True, False])
def test_each_layer_is_there_when_its_wait_ends(stored, is_layerwise):
    client, source, space, pieces = stored
    into, loading = load(client, source, space, pieces, 20, is_layerwise)
    with ThreadPoolExecutor(4) as threads:
        loading.begin(threads)
        for layer, (mine, theirs) in enumerate(zip(into.layers, source.layers, strict=True)):
            loading.wait(f"layers.{layer}")
            assert torch.equal(mine.pages[1:7], theirs.pages[1:7])
    assert loading.is_done and loading.end() == []


def test_ranges_of_layers_go_in_order_and_leave_none_out():
    into = part_of("model")
    ranges = plan(Share(into, into.part.space(None, None), []), True)
    assert [layer for begin, end in ranges for layer in range(begin, end)] == list(range(LAYERS))
    assert len(ranges) > 1


def test_from_a_missing_chunk_on_all_blocks_are_reported(stored):
    client, source, space, pieces = stored
    lost = Piece(1, os.urandom(32).hex(), pieces[1].blocks)
    into, loading = load(client, source, space, [pieces[0], lost, pieces[2]], 20)
    with ThreadPoolExecutor(4) as threads:
        loading.begin(threads)
        for layer in range(LAYERS):
            loading.wait(f"layers.{layer}")
    assert sorted(loading.end()) == [3, 4, 5, 6]
    assert all(torch.equal(mine.pages[1:3], theirs.pages[1:3]) for mine, theirs in zip(into.layers, source.layers, strict=True))


class Gate:
    """Passes bytes on to the daemon once it is opened."""

    def __init__(self, target, path):
        self.opened = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._target = target
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self._listener.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            threading.Thread(target=self._pump, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, self.opened), daemon=True).start()

    @staticmethod
    def _pump(source, sink, gate):
        try:
            while data := source.recv(1 << 16):
                if gate is not None:
                    gate.wait()
                sink.sendall(data)
        except OSError:
            pass  # one of them is gone, and with it the connection


def test_a_layer_that_was_computed_without_its_pages_has_failed_even_if_they_come_then(stored, address, tmp_path):
    """Or the engine would take what attention made of garbage for the truth."""
    _, source, space, pieces = stored
    path = str(tmp_path / "gate.sock")
    gate = Gate(address, path)
    client = Client(path)
    into, loading = load(client, source, space, pieces, 0.5)
    # The fetch itself has longer: its frames come after the layer's deadline and before the end of the step.
    fetch = client.fetch
    client.fetch = lambda space, entries, _, *rest: fetch(space, entries, 20_000, *rest)
    with ThreadPoolExecutor(4) as threads:
        loading.begin(threads)
        loading.wait("layers.0")
        gate.opened.set()
    assert all(torch.equal(mine.pages[1:7], theirs.pages[1:7]) for mine, theirs in zip(into.layers, source.layers, strict=True))
    assert sorted(loading.end()) == [1, 2, 3, 4, 5, 6]


def test_nothing_is_written_after_the_end(stored, address, tmp_path):
    _, source, space, pieces = stored
    path = str(tmp_path / "gate.sock")
    gate = Gate(address, path)
    into, loading = load(Client(path), source, space, pieces, 20)
    with ThreadPoolExecutor(4) as threads:
        loading.begin(threads)
        assert sorted(loading.end()) == [1, 2, 3, 4, 5, 6]
        gate.opened.set()
    assert not any(layer.pages.any() for layer in into.layers)
