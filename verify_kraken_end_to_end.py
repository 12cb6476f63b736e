"""Verify a Kraken account end to end before it goes live: `brokerwatch verify`, on the keys of the master.

    export KRAKEN_MASTER_API_KEY=... KRAKEN_MASTER_API_SECRET=...
    python verify_kraken_end_to_end.py             writes kraken_e2e_verification_report.json
    python verify_kraken_end_to_end.py --demo      on a simulated Kraken, to see what it looks like

The way through it: brokerwatch/checklist.py is what is verified, brokerwatch/examiner.py does each check,
brokerwatch/findings.py and its neighbours judge what was answered, brokerwatch/verify.py puts it together.
"""

from brokerwatch.cli import verify_kraken_alone

if __name__ == "__main__":
    verify_kraken_alone()
