from typing import Any


def handle(event: Any, context: Any) -> dict[str, Any]:
    """Answer a request.

    event: body (bytes), headers, method, query, path. context: call_id, hostname, function_name, namespace.
    What is printed goes to the function's log.
    """
    name = event.body.decode().strip() or "world"
    print(f"greeting {name} in call {context.call_id}")
    return {
        "statusCode": 200,
        "body": f"Hello, {name}!\n",
        "headers": {"Content-Type": "text/plain"},
    }
