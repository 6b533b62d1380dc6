"""How a command is declared: its function gets a Session, and every command takes -o and --actor."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cli.errors import Status
from cli.output import Format
from cli.session import Session

Output = Annotated[
    Format,
    typer.Option("-o", "--output", help="How results are written; a pipe does not change it.", show_default=True),
]
ActorName = Annotated[
    str | None,
    typer.Option("--actor", metavar="NAME", help="Who acts; else REFUNDRY_ACTOR, else the system user."),
]
Work = Callable[..., int | None]


def group(help_text: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)


def command(app: typer.Typer, name: str) -> Callable[[Work], Work]:
    """Offer a function as a command. It gets the session first and answers its exit status, None for done."""

    def offer(work: Work) -> Work:
        def run(output: Format, actor: str | None, **given: Any) -> None:
            session = Session(output, actor)
            try:
                status = work(session, **given)
            finally:
                session.close()
            raise typer.Exit(status or Status.DONE)

        _dress(run, work)
        app.command(name)(run)

        return work

    return offer


def _dress(run: Callable[..., None], work: Work) -> None:
    """Give `run` the parameters of `work` without its session, and the two that all commands have."""
    own = list(inspect.signature(work, eval_str=True).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    common = [
        inspect.Parameter("output", keyword, default=Format.TABLE, annotation=Output),
        inspect.Parameter("actor", keyword, default=None, annotation=ActorName),
    ]
    parameters = [*(each.replace(kind=keyword) for each in own), *common]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__doc__ = work.__doc__
    run.__name__ = work.__name__
