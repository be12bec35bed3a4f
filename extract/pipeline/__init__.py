"""From files to stored features on one machine, stage beside stage."""
