"""``bayes-pfl push``."""

from __future__ import annotations

from typing import Annotated

import typer

from bayes_pfl.cli.options import say


def push(
    checkpoint: Annotated[
        str, typer.Argument(help="Checkpoint or run folder, or an embedded name.")
    ],
    repository: Annotated[str, typer.Argument(help="On the Hugging Face hub: org/name.")],
    private: Annotated[
        bool | None, typer.Option(help="Of a new repository; default: the account's.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, made if it is not there; default: the main one.")
    ] = None,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    license: Annotated[
        str | None, typer.Option(help="For the model card, such as apache-2.0; default: unknown.")
    ] = None,
) -> None:
    """Upload a checkpoint and its model card to the Hugging Face hub.

    The token is the one of `hf auth login` or of HF_TOKEN. Prints org/name@commit, which
    --checkpoint takes: just these weights, whatever is pushed later.
    """
    from bayes_pfl.checkpoints.publish import push_checkpoint

    pinned = push_checkpoint(
        checkpoint,
        repository,
        private=private,
        revision=revision,
        commit_message=message,
        license=license,
    )
    say(pinned)
