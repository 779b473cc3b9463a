"""How values are shown: dates, numbers, Markdown, charts, and a person's preferences for them."""
