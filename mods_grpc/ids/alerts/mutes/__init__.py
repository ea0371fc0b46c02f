"""What mute rules mean, and how often rules of suppression muted something."""
