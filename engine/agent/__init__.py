"""The role beside a service: dials out, offers an endpoint, and hands each stream to the service."""
