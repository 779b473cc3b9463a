"""How values are shown: dates, numbers, Markdown, charts, and the user's preferences."""
