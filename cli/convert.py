"""`lehr import` and `lehr export`: models from and for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from lehr.cli.places import LOCAL, RUN, Where
from lehr.cli.say import say


@click.command("import")
@click.argument("folder", type=LOCAL)
@click.option("--out", type=LOCAL, required=True, help="The checkpoint's folder; it must be new.")
def import_(folder: Path, out: Path) -> None:
    """Make a checkpoint of a Hugging Face model in FOLDER.

    FOLDER holds config.json, tokenizer.json and safetensors (one file, or several with an index) of an Olmo, Olmo2,
    Granite, GraniteMoe or StableLm model. The checkpoint is one like any other: `lehr chat`, `lehr show` and
    `lehr export` take it.

    \b
    Example:
      lehr import models/OLMo-2-0425-1B --out checkpoints/olmo2-1b
    """
    from lehr.interop.convert import import_hf
    from lehr.model.size import parameter_count
    from lehr.train.checkpointing.checkpoint import load_checkpoint

    artifact = import_hf(folder, out)
    architecture = load_checkpoint(artifact).architecture
    say(f"{out}: {architecture.family}, {parameter_count(architecture):,} parameters, {artifact.manifest.digest[:12]}")


@click.command("export")
@click.argument("artifact", type=RUN)
@click.option("--out", type=LOCAL, required=True, help="New folder (hf) or file (gguf) to write.")
@click.option(
    "--format", "kind", type=click.Choice(["hf", "gguf"]), default="hf", show_default=True, help="Hugging Face or llama.cpp."
)
@click.option(
    "--dtype", type=click.Choice(["f32", "f16", "bf16"]), default="f32", show_default=True, help="Of a GGUF file's matrices."
)
def export(artifact: Where, out: Path, kind: str, dtype: str) -> None:
    """Write ARTIFACT, a checkpoint's folder or a run's folder, for other tools.

    The result is proved before it is kept: a Hugging Face folder by loading it with transformers and comparing logits and
    greedy text, a GGUF file by reading it back and comparing logits.

    \b
    Examples:
      lehr export runs/tiny-olmo2 --out model
      lehr export runs/tiny-olmo2 --out model.gguf --format gguf --dtype bf16
    """
    from lehr.cli.locate import find, whole
    from lehr.data.tokenizer import FILE
    from lehr.interop.convert import export_to_gguf, export_to_hf
    from lehr.interop.gguf_pre_tokenizer import composes

    checkpoint = whole(find(artifact).expect("checkpoint"))
    if kind == "gguf":
        difference = export_to_gguf(checkpoint, out, dtype)  # type: ignore[arg-type]
        say(f"{out}: {out.stat().st_size:,} bytes; logits read back differ by {difference:.1e}")
        if composes(checkpoint.path(FILE)):
            say("its tokenizer composes characters (NFC), llama.cpp does not: a text that is not composed has other ids there")
        return
    result = export_to_hf(checkpoint, out)
    if result is None:
        say(f"{out}: not compared, transformers is not installed")
    else:
        say(f"{out}: logits differ from transformers' by {result.max_abs_difference:.1e}, the same greedy text")
