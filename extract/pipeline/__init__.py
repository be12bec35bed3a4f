"""From files to stored features on one machine; the stages overlap."""
