"""The page of classification: sentences, scores, curves, confused classes and hard images of boards."""
