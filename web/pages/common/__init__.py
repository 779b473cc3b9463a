"""What every page is made of: forms, htmx fragments, messages, and the views of declared resources."""
