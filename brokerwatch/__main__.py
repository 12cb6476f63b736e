"""`python -m brokerwatch` is `brokerwatch`."""

from brokerwatch.cli.main import main

if __name__ == "__main__":
    main()
