"""From a CSV to answers in another process: the same job as the users of four libraries write it.

The table is the Palmer penguins', 344 of them in three species of which one is rare, with names and missing values in
its columns. The job: encode, fill, scale, weigh the classes, train with dropout and early stopping, score, save; then,
in another process, load and predict.

    python -m experiments.benchmarks.csv_job

runs each script, in two processes, and prints its accuracy, its lines of code and the time that it took.

Data: A. Horst, A. Hill, K. Gorman, palmerpenguins, doi:10.5281/zenodo.3960218, CC0; from the package of that name.
"""
