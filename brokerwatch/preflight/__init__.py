"""Before go-live: `verify` asks one account, `doctor` looks at a whole configuration.

Public face: `verify.Verification`, `doctor.Diagnostics`.
May import: everything below the command line.
"""
