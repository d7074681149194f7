"""An app whose kind cannot be seen here."""

import asgi as elsewhere

app = elsewhere.app
