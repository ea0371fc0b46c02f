"""When and where work runs: admission, fair lock, micro-batches, worker pool, timeouts and the watchdog of model runs."""
