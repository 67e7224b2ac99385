"""A new life of a database: for a node that finds that it has travelled back in time.

Run on the commit thread, like upkeep. Entries made so far stay what they are: those of an origin that this node used
to be, and that others may know more of.
"""

from storage.entry import Origin
from storage.environment import FILLING_KEY
from storage.write_state import WriteState


def mint_incarnation(state: WriteState, *, known_as: Origin, known_oseq: int, known_chain: bytes) -> bool:
    """Begin a new incarnation if somebody knows more of ``known_as`` than is here, and it is still the current one.

    Whether it did. Where the numbers are equal the chains tell whether it is the same history.
    """
    environment = state.environment
    if known_as != environment.origin or known_oseq < state.oseq:
        return False
    if known_oseq == state.oseq and known_chain == state.chain:
        return False
    state.begin_incarnation(environment.settings.new_store_id())
    return True


def end_filling(state: WriteState) -> None:
    """The database has caught up with its peers for the first time: from now on it takes writes of clients."""
    state.delete("meta", FILLING_KEY)
    state.environment.is_filling = False
