"""The configuration that `brokerwatch init` writes."""

CONFIG_TEMPLATE = """\
# What brokerwatch watches. Run it with: brokerwatch run
# Secrets never stand in this file: it names the environment variable, or the file, that holds each.
version = 1

[cluster]
name = "main"
health_endpoint = "tcp://127.0.0.1:5571"   # where others listen: brokerwatch listen
# heartbeat_s = 1.0                        # a broker that misses four, and a second: not available
publish_balances = true                    # false keeps amounts inside this process
# state = "brokerwatch-state"              # the folder that remembers; default: the platform's own
# store = "postgresql+psycopg://user@host/db"  # default: SQLite in that folder
# require_verification_max_age_s = 86400   # entries need `brokerwatch verify` to have passed since then

# [curve]                                  # other machines may listen; docs/listen.md
# key_file = "cluster.key"                 # brokerwatch keys make cluster
# subscribers = "subscribers.keys"         # brokerwatch keys allow bot-1.pub

# [http]                                   # page and API; docs/http.md
# listen = "127.0.0.1:5572"
# token_file = "brokerwatch.token"         # openssl rand -hex 32 > brokerwatch.token; chmod 600 it

# [notify]                                 # people are told of an outage and of its end
# urls_file = "notify.urls"                # one address a line, as apprise writes them: tgram://…, mailto://…
# heartbeat_url_env = "HEARTBEAT_URL"      # a dead man's switch: called as long as all is watched

# One table for each account. Give the watcher a key of its own that may only query:
# most nonce errors come from one key that two programs share.

[brokers.kraken-main]                      # the name: a-z, 0-9, - and _
exchange = "kraken"                        # any ccxt id
api_key_env = "KRAKEN_MAIN_API_KEY"        # or api_key_file = "kraken.key"
secret_env = "KRAKEN_MAIN_API_SECRET"
policy = "guarded"                         # for live money; "simple" starts available and counts to three
poll_interval_s = 10
fetch_deadline_s = 8
max_consecutive_errors = 3                 # so many errors in a row: not available
cash_currencies = ["USD", "USDT", "USDC"]  # added up as cash; pegged to one unit
labels = { desk = "a" }
# allow_empty = true                       # a new account without any currency is believed at once

# [brokers.kraken-main.rules]              # each rule of the policy can be set or switched off:
# successes_to_recover = 2                 # successes in a row that bring it back
# confirm_after_s = [0.25, 0.5]            # ask again so soon after a first and second error; [] is off
# backoff_s = [1, 60]                      # probe an unavailable account between these; [] is off
# max_age_s = 60                           # an older balance is stale; inf is off

# [brokers.coinbase-main]
# exchange = "coinbase"
# policy = "guarded"
# api_key_env = "COINBASE_API_KEY"         # organizations/.../apiKeys/...
# secret_file = "coinbase.pem"             # or the JSON file of the key, without api_key_env

# [brokers.okx-main]
# exchange = "okx"                         # an account of OKX Europe: myokx
# policy = "guarded"
# api_key_env = "OKX_API_KEY"
# secret_env = "OKX_API_SECRET"
# password_env = "OKX_API_PASSPHRASE"
"""
