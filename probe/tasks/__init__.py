"""Labels and few-shot samples of task families."""
