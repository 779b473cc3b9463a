"""What all pages share: forms, htmx fragments, flash messages, and the views of declared resources."""
