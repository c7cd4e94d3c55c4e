"""One-shot search: one network with shared weights stands for all architectures of a space.

`supernet` holds the weights and cuts subnets out of them, `sandwich` trains it, `pool` keeps what is drawn inside the
budget, `evaluation` tells a subnet's accuracy without training it.
"""
