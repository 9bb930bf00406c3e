"""Tables, sessions and migrations; rows become the values of the rooms and back."""
