"""Run brokerwatch: one Pykka actor per exchange account, a supervisor over them, a public health topic.

    python run_cluster.py --demo                   on simulated exchanges that break and recover
    python run_cluster.py --config FILE            on your accounts (the same as `brokerwatch run`)

The way through the code, in the order in which things happen:

    brokerwatch/cli/run.py                settings -> cluster -> screen, until Ctrl-C
    brokerwatch/cluster/cluster.py        starts every part, and stops them in order
    brokerwatch/cluster/wiring.py         hands each part the parts that it needs
    brokerwatch/gateway/connection.py     asks an exchange through ccxt, under a deadline
    brokerwatch/exchanges/kraken.py       what an answer of Kraken proves; one such adapter for each exchange
    actors/broker.py                      owns one account: folds each outcome, shows the result
    brokerwatch/health/state_machine.py   THE IDEA: the state machine of one account, as a table
    actors/board.py                       where the trading thread reads, without waiting
    actors/supervisor.py                  hears all brokers over ZeroMQ; silence, death, restarts; publishes
    brokerwatch/bus/listener.py           the subscriber at the other end, in any process

An order takes another way: brokerwatch/cluster/order_entry.py, orders/executor.py, orders/lookup.py.

actors/ and messages/ are imported as brokerwatch.actors and brokerwatch.messages. The trader holds the
handle in brokerwatch/cluster/broker.py. The words are defined in messages/health.py, and the table of all
packages is in docs/architecture.md.
"""

from brokerwatch.cli.main import run_alone

if __name__ == "__main__":
    run_alone()
