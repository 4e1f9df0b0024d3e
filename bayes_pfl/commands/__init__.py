"""The commands of `bayes-pfl`, a file for each group; :mod:`bayes_pfl.cli.main` joins them."""
