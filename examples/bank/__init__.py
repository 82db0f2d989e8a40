"""A small bank: accounts, transfers and an audit trail, on flask-reqsession.

Where to begin reading: ``bookkeeping.py`` (a transfer, three decorated calls deep), then
``api.py`` and ``pages.py`` (the views), then ``worker.py`` (work outside a request).

    flask --app examples.bank init-db
    flask --app examples.bank seed
    flask --app examples.bank run
    flask --app examples.bank transfer 1 2 12.50 --memo rent
    flask --app examples.bank work      # carries out the standing orders that wait

``python -m examples.bank`` shows what is committed and what is rolled back, over real HTTP.
"""

from __future__ import annotations

from .app import create_app

__all__ = ["create_app"]
