"""Any labelled images: classes, traits or numbers of a task table, any classifier, scores with honest intervals."""
