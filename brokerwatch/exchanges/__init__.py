"""Pure: what an exchange's answer proves. One adapter file per exchange.

Public face: `registry.adapter_for`, `registry.refusal`, `registry.FAMILIES`; `adapter.ExchangeAdapter`;
`symbols.Products`; `faults.classify`; `order_request.requested`.
May import: `messages`, `money`, `errors`, `clock`; no time, thread, socket or chance.
"""
