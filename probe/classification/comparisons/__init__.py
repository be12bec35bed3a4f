"""What is quoted of runs and held against something: means over seeds, published scores, sides of one table."""
