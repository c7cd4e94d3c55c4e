"""Latency, memory and traffic of networks without compiling them: `fit.fit_engine`, `network.NetworkEstimator`.

Nothing is imported here, so that naming a class of this package does not load scikit-learn.
"""
