"""The thin HTTP/1.1 layer: the server lane and the client pool of the hot path, on httptools and asyncio.

It knows nothing of functions, queues or settings: who answers and whom to call is decided above. Everything that is not
hot (TLS servers, HTTP/2, WebSockets) is left to others.
"""
