"""What the operator wrote, checked: accounts, cluster settings, policies, and where each secret comes from.

Public face: `loader.load`, `loader.examine`, `broker_spec.BrokerSpec`, `cluster_settings.ClusterSettings`
and `Settings`, `policy.Rules`, `SIMPLE` and `GUARDED`.
May import: `messages`, `money`, `errors`, `clock`.
"""
