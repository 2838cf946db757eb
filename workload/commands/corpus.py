"""`hop2rag corpus`: questions and the document store."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import Annotated

import typer

from workload.commands.options import out, progress_bars

app = typer.Typer(help="Questions and the document store.", no_args_is_help=True)


@app.command("synthetic")
def corpus_synthetic(
    output: Annotated[Path, typer.Argument(help="The JSON file to write, in HotpotQA's official format.")],
    questions: Annotated[int, typer.Option(help="Number of questions.")] = 200,
    passages: Annotated[int, typer.Option(help="Number of passages.")] = 600,
    seed: Annotated[int, typer.Option(help="The same seed and sizes give the same bytes.")] = 0,
) -> None:
    """Generate bridge and comparison questions about an invented world, without a download."""
    from workload.corpus.hotpotqa import dump  # noqa: PLC0415
    from workload.corpus.synthetic import generate  # noqa: PLC0415

    made = generate(questions, passages, seed)
    dump(made, output)
    out.print(f"{len(made)} questions in {output}")


@app.command("index")
def corpus_index(
    questions: Annotated[Path, typer.Argument(help="File of HotpotQA, 2WikiMultihopQA or MuSiQue to index.")],
    persist_dir: Annotated[Path, typer.Option(help="Folder of the Chroma store.", envvar="AGRAG_PERSIST_DIR")],
    collection: Annotated[str, typer.Option(help="Name of the collection.", envvar="AGRAG_COLLECTION_NAME")] = (
        "hotpot_fullwiki"
    ),
    replace: Annotated[bool, typer.Option(help="Replace a collection of ours that has other passages.")] = False,
) -> None:
    """Embed the passages and build the Chroma collection with its manifest."""
    from workload.corpus.embedding import MiniLmEmbedder  # noqa: PLC0415
    from workload.corpus.hotpotqa import unique_paragraphs  # noqa: PLC0415
    from workload.corpus.index import build  # noqa: PLC0415
    from workload.corpus.layouts import load  # noqa: PLC0415

    paragraphs = unique_paragraphs(load(questions))
    with progress_bars() as progress:
        manifest = build(paragraphs, persist_dir, collection, MiniLmEmbedder(), progress=progress, replace=replace)
    out.print(f"{manifest.count} passages in collection {manifest.collection} of {persist_dir}")
