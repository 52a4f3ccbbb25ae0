"""The collector's parts: whose gateways, when to read, what to keep, how a relay is driven."""
