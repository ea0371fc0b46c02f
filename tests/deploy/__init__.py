"""Tests of what is deployed: images, Kubernetes and Compose files, proxies, network use."""
