"""Pure: is this account to be trusted? The state machine of one account and what surrounds it.

Public face: `state_machine.Health`, `Vetoes` and `verdict`; `supervision.View` and `look_round`;
`reading.composed`; `proof.Proof`; `changes.Change`; `outcome.FetchOutcome` and `Source`.
May import: `config`, `messages`, `money`, `errors`, `clock`; no time, thread, socket or chance.
"""
