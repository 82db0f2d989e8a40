"""The application factory."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from flask import Flask

from flask_reqsession import DatabaseManager, RequestScopedSessionManager

from . import cli, failures
from .api import api
from .money import format_cents
from .pages import pages
from .worker import StandingOrderWorker


def create_app(database_url: str | None = None) -> Flask:
    """Build the bank on ``database_url``, else on ``DATABASE_URL``, else on a file of its own.

    That file lies in the instance folder. The tables are made by ``flask init-db``; the worker of
    the standing orders (``app.extensions["bank.worker"]``) is started by whoever serves the app.
    """
    app = Flask(__name__)
    app.config["SECRET_KEY"] = os.environ.get("SECRET_KEY") or secrets.token_hex()
    url = database_url or os.environ.get("DATABASE_URL") or _instance_database(app)

    RequestScopedSessionManager(DatabaseManager(url)).init_app(app)
    app.extensions["bank.worker"] = StandingOrderWorker(app)

    app.register_blueprint(pages)
    app.register_blueprint(api)
    app.add_template_filter(format_cents, "money")
    failures.register(app)
    cli.register(app)
    return app


def _instance_database(app: Flask) -> str:
    folder = Path(app.instance_path)
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'bank.db'}"
