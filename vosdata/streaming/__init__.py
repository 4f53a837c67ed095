"""What :class:`vosdata.stream.SnippetStream` is made of: the order, what is drawn, and the engine that decodes it."""
