"""A whole cluster in one run of trio, with virtual time: the real links, cores and stores over a network that fails.

Everything that could differ between two runs comes from one seed: the order in which tasks run, the network's faults
and delays, the workload, the ids. ``world.py`` makes it repeatable, ``network.py`` is what goes wrong between nodes,
``node.py`` is one node that can crash, ``history.py`` remembers what was promised to clients and checks it in the end.
"""
