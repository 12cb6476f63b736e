"""Messages to people, and the dead man's switch: a subscriber like any other.

Public face: `notifier.Notifier`, `silences.Silence`, `silence_file.SilenceFile`.
Pure: `observations`, `notices`, `wording`, `silences`, `causes`, `outage_state`, `outages`,
`deliveries`, `warnings`, `watchfulness`.
May import: `bus`, `storage`, `health`, `config` (never its credentials), `messages`, `money`, `errors`,
`clock`.
apprise is imported in `apprise_process` alone, which is a process of its own.
"""
