def handle(req: str) -> str:
    """Answer a request's body. What is printed goes to the function's log."""
    name = req.strip() or "world"
    print(f"greeting {name}")
    return f"Hello, {name}!\n"
