"""``pending.json``: the sources that a run left undone, so that they go first in the next one.

It decides an order and nothing else: without it, or where it is damaged, the next run does the same in another order.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from storage.stores.base import PENDING_FILE, Store

log = logging.getLogger(__name__)


def read_pending(store: Store) -> list[str]:
    """URIs in the order in which they are to be done; none where nothing was left, or the file is damaged."""
    try:
        data = json.loads(store.read_bytes(PENDING_FILE))
    except FileNotFoundError:
        return []
    except (ValueError, RecursionError) as error:
        return _damaged(store, str(error))
    uris = data.get("uris") if isinstance(data, dict) else None
    if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
        return _damaged(store, "it is not a list of addresses")
    return uris


def write_pending(store: Store, uris: Sequence[str]) -> None:
    """Replace it in one step, remove it where nothing is left; only under the lease."""
    distinct = list(dict.fromkeys(uris))
    if distinct:
        store.write_bytes(PENDING_FILE, json.dumps({"uris": distinct}).encode())
    elif store.exists(PENDING_FILE):
        store.delete(PENDING_FILE)


def _damaged(store: Store, reason: str) -> list[str]:
    log.warning("%s/%s is damaged, so what was left undone has no order: %s", store.uri, PENDING_FILE, reason)
    return []
