"""`publish doctor`: looks at a home, its server and what they need, changes nothing, and says what to do."""
