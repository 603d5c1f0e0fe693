"""How notices reach people: the outbox and its channels."""
