"""Compare the accuracy of algorithms, and of FedMosaic with one thing changed."""
