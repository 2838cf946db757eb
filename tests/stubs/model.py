"""A model's folder as far as the project reads it: a tokenizer trained on the questions, and a chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from workload.corpus.hotpotqa import unique_paragraphs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workload.corpus.hotpotqa import Question

BEGIN, END = "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}{% if message['content'] == 'refuse me' %}{{ raise_exception('no') }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_model(folder: Path, questions: Sequence[Question]) -> Path:
    """Write a byte-level tokenizer of some thousand merges and a chat template like ChatML; return the folder."""
    from transformers import PreTrainedTokenizerFast  # seconds to import, and few tests need it

    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=6000,
        special_tokens=[BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator([paragraph.text for paragraph in unique_paragraphs(questions)], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=library, bos_token=BEGIN, eos_token=END)  # type: ignore[no-untyped-call]
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return folder
