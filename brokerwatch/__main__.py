"""`python -m brokerwatch` is `brokerwatch`."""

from brokerwatch.cli import main

if __name__ == "__main__":
    main()
