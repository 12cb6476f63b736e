"""Run brokerwatch: one Pykka actor per exchange account, a supervisor over them, a public health topic.

    python run_cluster.py --demo                   on simulated exchanges that break and recover
    python run_cluster.py --config FILE            on your accounts (the same as `brokerwatch run`)

The way through the house, in the order in which things happen:

    brokerwatch/cli/run.py                settings -> cluster -> screen, until Ctrl-C
    brokerwatch/cluster/cluster.py        puts everything together, and takes it apart in order
    brokerwatch/gateway/gateway.py        asks an exchange through ccxt, and refuses what proves nothing
    actors/broker.py                      owns one account: folds each outcome, shows the result
    brokerwatch/health/state_machine.py   THE IDEA: the state machine of one account, as a table
    actors/board.py                       where the trading thread reads, without waiting
    actors/supervisor.py                  hears all brokers over ZeroMQ; silence, death, restarts; publishes
    brokerwatch/bus/listener.py           the subscriber at the other end, in any process

(actors/ and messages/ are imported as brokerwatch.actors and brokerwatch.messages. What a trader holds is
the handle in brokerwatch/cluster/broker.py; what the words mean stands in messages/health.py.)
"""

from brokerwatch.cli.main import run_alone

if __name__ == "__main__":
    run_alone()
