"""The commands of ``tempo``, one module per group. Heavy imports wait until a command runs."""
