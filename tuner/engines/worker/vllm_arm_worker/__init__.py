"""The worker that starts the arms of a launch. It runs in the serving environment."""
