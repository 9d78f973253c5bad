"""What the notebooks ask and serve.py speaks for; each module imports only from lower floors (tests/test_floors.py)."""

__version__ = "0.1.0"
