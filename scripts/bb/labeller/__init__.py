"""`bb label`: a page on this machine on which a person labels images; images < questions < session < app."""
