"""One order, sent once: written down before it is sent, looked up when its answer is lost.

Public face: `executor.OrderExecutor`, `in_flight.InFlightOrders`, `ticket.Ticket`, `gate.Gate`.
May import: `gateway`, `storage`, `verification`, `exchanges`, `health`, `config`, `messages`, `money`,
`errors`, `clock`.
"""
