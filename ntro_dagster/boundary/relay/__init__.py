"""The way from a tenant's processes to the workspace's storages: they hold no credential of its database.

`client` is the tenant's half, `service` the workspace's; `calls` names what may be asked, `view` decides what a tenant may see
of it, `encoding` is what they say to each other.
"""
