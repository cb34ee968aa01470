"""A Ray cluster of two nodes on this machine, as a program: prints its address, ends with its standard input."""

from __future__ import annotations

import sys
from typing import Any

from flows.environment import prepare

prepare()

from ray.cluster_utils import Cluster  # noqa: E402 - Ray counts its users from its import on


def main() -> None:
    """Run until standard input ends."""
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
