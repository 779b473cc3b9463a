"""What the three database servers have in common: logins, pooled engines, restore points, checks."""
