"""The OpenAPI document of the JSON calls, and the page that shows it."""
