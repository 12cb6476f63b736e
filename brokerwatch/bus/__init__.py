"""ZeroMQ: publishers, subscribers, and the listener that any process may use.

Public face: `listener.Listener`, `sockets.Bus`, `publisher.Publisher`, `subscriber.Subscriber`,
`publishing.BrokerPublishing` and `HealthPublishing`, `inbox.Inbox`, `change_dispatcher.ChangeDispatcher`.
May import: `routing` (a listener has a router), `health`, `config`, `messages`, `money`, `errors`, `clock`;
ZeroMQ is imported here.
"""
