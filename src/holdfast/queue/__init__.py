"""The queue: a thin NATS JetStream client, the streams Holdfast uses, and how an invocation travels in them."""
