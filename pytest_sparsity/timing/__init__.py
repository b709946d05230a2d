"""How fast something runs and how much memory it takes, compared so that noise is not news."""
