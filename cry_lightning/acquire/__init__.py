"""From recordings as parents' phones make them to short cry units and a manifest; how well units are found."""
