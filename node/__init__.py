"""The process: command line, configuration, certificates, logging, and the lifetime of everything.

``__main__`` reads arguments, ``settings`` is what a node is started with, ``assembly`` is the only place that knows all
four layers, ``lifetime`` owns the root nursery: start order, draining, stop.
"""
