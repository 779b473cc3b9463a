"""Who is asking: browser sessions, known browsers, and the guards of the views."""
