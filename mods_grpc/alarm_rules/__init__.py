"""The rules of alarms that the server and the watch share: when an episode opens and ends, and how the alarm level adapts."""
