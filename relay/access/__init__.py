"""Who may see which flows: asked of Kubernetes."""

from flows.relay.access.credentials import Credentials, credentials
from flows.relay.access.policy import AccessError, Accesses, accesses
from flows.relay.access.scope import Access, Denied, Grant, Scope

__all__ = ["Access", "AccessError", "Accesses", "Credentials", "Denied", "Grant", "Scope", "accesses", "credentials"]
