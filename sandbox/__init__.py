"""Five payment providers on one port, played from their documents, with faults on demand.

Imports nothing of the project's other packages: what they misread must show up here.
"""
