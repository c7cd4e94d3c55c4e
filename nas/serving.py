"""A storage of this machine for the workers of others, through gRPC."""

from __future__ import annotations

import importlib.util
import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.storages import get_storage, run_grpc_proxy_server

from ..common.errors import ConfigError
from .storage import Place, open_storage, storage_errors


def serve(place: Place, host: str, port: int) -> None:
    """Answers workers at grpc://`host`:`port` until it is interrupted.

    There is neither password nor encryption: whoever reaches the port can read and write all studies.

    Raises:
        ConfigError: gRPC is not installed, or trials at `place` cannot be served.
        InputError: the storage or the port cannot be used.
    """
    if place.scheme not in ("sqlite", "postgresql"):
        hint = "serve a SQLite file or PostgreSQL; Optuna's server knows no other"
        raise ConfigError(f"{place.shown} cannot be served", where="--storage", hint=hint)
    if importlib.util.find_spec("grpc") is None:
        raise ConfigError("serving needs grpc, which is not installed", hint="pip install 'lanefit[grpc]'")
    with open_storage(place) as storage, warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # in Optuna 5
        with storage_errors(place):
            try:
                run_grpc_proxy_server(get_storage(storage), host=host, port=port)
            except RuntimeError as error:  # what gRPC raises when it cannot bind
                raise ConfigError(f"cannot listen on {host}:{port}", where="--port", hint=str(error)) from error
