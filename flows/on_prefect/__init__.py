"""The run as a Prefect flow: its parameters, its states, and what it leaves in the Prefect UI."""
