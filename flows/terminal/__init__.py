"""What a person types and sees: the commands of ``tempo``, their options, and how results are printed."""
