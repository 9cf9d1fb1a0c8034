"""The platform's tables, by what they are about; ``api.store.schema`` has all of them."""
