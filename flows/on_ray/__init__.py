"""The workers of a run as Ray actors: started, watched, replaced and counted."""
