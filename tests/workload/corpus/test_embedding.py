"""The packaged model is what every retrieval rests on; the tests load it once."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from workload.corpus import embedding
from workload.corpus.embedding import MiniLmEmbedder
from workload.errors import MissingPartError


@pytest.fixture(scope="module")
def model() -> MiniLmEmbedder:
    """The real model, loaded on first use."""
    return MiniLmEmbedder()


def test_vectors_have_the_declared_shape_and_length_one(model: MiniLmEmbedder) -> None:
    """The pre-flight trusts `dimension` without loading the model; cosine distances trust the length."""
    vectors = model.encode(["The River Velth flows through Oran Hythe.", "A novelist.", ""])
    assert vectors.shape == (3, model.dimension)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert model.encode([]).shape == (0, model.dimension)


def test_meaning_beats_shared_words(model: MiniLmEmbedder) -> None:
    """A wrong pooling or tokenizer gives vectors of the right shape that mean nothing."""
    question, near, far = model.encode(
        ["Who wrote the book?", "The novel is by a well-known author.", "Who wrote off the car?"]
    )
    assert question @ near > question @ far


def test_a_text_gets_the_same_vector_in_any_batch(model: MiniLmEmbedder) -> None:
    """Passages are embedded in batches and questions alone; padding must not move them apart."""
    texts = ["Oran Hythe.", "A much longer text that makes the shorter one be padded by quite a few tokens."]
    assert model.encode(texts)[0] == pytest.approx(model.encode(texts[:1])[0], abs=1e-5)


def test_a_query_takes_one_thread_and_a_batch_takes_all(model: MiniLmEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of a short text wait for one another, and for an engine that has the cores; a batch is worth them."""
    import torch

    model.load()
    used: list[int] = []
    whole = model._model.encode
    monkeypatch.setattr(model._model, "encode", lambda *a, **k: used.append(torch.get_num_threads()) or whole(*a, **k))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for texts in (["A query."], ["Two", "passages."], ["A query."]):
            model.encode(texts)
        assert (used, torch.get_num_threads()) == ([1, 2, 1], 2)
    finally:
        torch.set_num_threads(before)


def test_importing_and_naming_the_model_loads_nothing() -> None:
    """Commands that never embed must not wait seconds for torch; and offline means no hub, even at load."""
    code = (
        "import os, sys; from workload.corpus.embedding import MiniLmEmbedder as E; E().dimension;"
        "assert 'torch' not in sys.modules; assert 'HF_HUB_OFFLINE' not in os.environ"
    )
    environ = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60, env=environ).returncode == 0


def test_the_hub_is_off_once_the_model_is_loaded() -> None:
    """A missing file would otherwise be looked for on the network, with a long wait or a surprise download.

    The library reads its switch when it is first imported, so only a fresh process shows it. A stand-in takes the
    place of the model, whose import would take seconds.
    """
    code = (
        "import sys; from unittest.mock import Mock; sys.modules['sentence_transformers'] = Mock();"
        "from workload.corpus.embedding import MiniLmEmbedder as E; E().load();"
        "import huggingface_hub.constants as c; assert c.HF_HUB_OFFLINE"
    )
    environ = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=110, env=environ).returncode == 0


def test_a_missing_package_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3 with the package's name, instead of a traceback from deep inside a library."""
    monkeypatch.setattr(embedding, "MODEL_PACKAGE", "absent_model_package")
    with pytest.raises(MissingPartError, match="absent_model_package is not installed"):
        MiniLmEmbedder().load()


def test_a_package_without_its_model_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted install leaves the package without its big files."""
    monkeypatch.setattr(embedding, "MODEL_PACKAGE", "workload")
    with pytest.raises(MissingPartError, match="Reinstall"):
        MiniLmEmbedder().load()
