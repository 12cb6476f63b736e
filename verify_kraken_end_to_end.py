"""Verify a Kraken account before it goes live: `brokerwatch verify`, for the keys of the master account.

    export KRAKEN_MASTER_API_KEY=... KRAKEN_MASTER_API_SECRET=...
    python verify_kraken_end_to_end.py             writes kraken_e2e_verification_report.json
    python verify_kraken_end_to_end.py --demo      on a simulated Kraken, to see the output

The way through it, under brokerwatch/:

    cli/verify.py                        the command, and what it shows
    preflight/verify.py                  runs the checks in order, in a cluster of its own
    verification/checklist.py            what is verified, and for how many points
    preflight/checks.py                  does each check
    verification/account_findings.py     judges the answers; the other findings are beside it
    verification/report.py               the report and its verdict
"""

from brokerwatch.cli.main import verify_kraken_alone

if __name__ == "__main__":
    verify_kraken_alone()
