"""The repository of model versions: scanned, tried in a canary process, loaded, swapped and looked up."""
