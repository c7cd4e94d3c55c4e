"""`lanefit serve`: a storage of this machine for the workers of others."""

from __future__ import annotations

from typing import Annotated

import typer

from ..common.errors import Interrupted
from .command import command
from .output import Output

DEFAULT_PORT = 13000


@command
def serve(
    output: Output,
    storage: Annotated[
        str,
        typer.Option(
            "--storage",
            metavar="URL",
            help="What is served: sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
            show_default=False,
        ),
    ],
    host: Annotated[str, typer.Option("--host", metavar="NAME", help="Address to listen on.")] = "localhost",
    port: Annotated[int, typer.Option("--port", metavar="N", help="Port to listen on.", min=1)] = DEFAULT_PORT,
) -> int:
    """Serve studies to `lanefit search --storage grpc://HOST:PORT` until Ctrl-C. For networks that you trust."""
    from ..nas.serving import serve as answer
    from ..nas.storage import parse_place

    place = parse_place(storage)
    output.note(f"serving {place.shown} at grpc://{host}:{port}; Ctrl-C ends it")
    try:
        answer(place, host, port)
    except KeyboardInterrupt:
        raise Interrupted("stopped serving; every study is saved", where=place.shown) from None
    return 0
