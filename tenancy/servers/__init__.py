"""Where databases may stand: registered database servers, and databases kept ready on them."""
