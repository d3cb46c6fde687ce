"""What the library costs beside its peers: `python -m benchmarks`.

Only developers run this; the package never imports it. The peers come with the extra `benchmark`.
"""
