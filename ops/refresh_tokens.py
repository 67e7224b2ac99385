"""The one refresh token of each user that counts: the hash of the last one made here, in a table that stays here.

A row made before the user's own record belongs to an earlier user of the same name, whose end may have come by
replication, which leaves this table alone.
"""

import hmac
from hashlib import sha256
from typing import Any

from ops.accounts import Account
from ops.system_records import find_key, put_record
from ops.system_tables import REFRESH_TOKENS
from storage.schema import UPDATED_TIME
from storage.transaction import ReadTransaction
from storage.write_transaction import WriteTransaction


def store_refresh_token(tx: WriteTransaction, user: str, token: str) -> None:
    """Make ``token`` the one that counts."""
    put_record(tx, tx.table(REFRESH_TOKENS), {"username": user, "hash": _hash(token)})


def is_current(tx: ReadTransaction, account: Account, token: str) -> bool:
    table = tx.table(REFRESH_TOKENS)
    key = find_key(account.user.name)
    row = None if key is None else tx.row(table, key)
    if row is None:
        return False
    record: dict[str, Any] = tx.record(table, row)
    is_of_this_user = record[UPDATED_TIME] >= account.created_ms
    return is_of_this_user and hmac.compare_digest(str(record.get("hash")), _hash(token))


def _hash(token: str) -> str:
    """Plain: a token is too random to be guessed."""
    return sha256(token.encode(errors="surrogatepass")).hexdigest()
