"""Verify a Kraken account end to end before it goes live: `brokerwatch verify`, on the keys of the master.

    export KRAKEN_MASTER_API_KEY=... KRAKEN_MASTER_API_SECRET=...
    python verify_kraken_end_to_end.py             writes kraken_e2e_verification_report.json
    python verify_kraken_end_to_end.py --demo      on a simulated Kraken, to see what it looks like

The way through it, under brokerwatch/:

    verification/checklist.py            what is verified, and for how many points
    preflight/checks.py                  does each check
    verification/account_findings.py     judges what was answered, with the other findings beside it
    preflight/verify.py                  puts it together
"""

from brokerwatch.cli.main import verify_kraken_alone

if __name__ == "__main__":
    verify_kraken_alone()
