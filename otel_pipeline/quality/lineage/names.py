"""Names of datasets and jobs, as OpenLineage wants them.

A dataset is known by a namespace, which is the place it is kept in, and a name that is unique
there. The rules are those of OpenLineage's naming conventions
(https://openlineage.io/docs/spec/naming), so that what is said of a dataset here meets what other
programs say of it.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["DatasetName", "JobName", "identify", "run_uuid"]

_MOST_CHARACTERS: Final = 512

#: Other words for the same place.
_SCHEMES: Final = {
    "s3a": "s3",
    "s3n": "s3",
    "gcs": "gs",
    "abfs": "abfss",
    "wasb": "wasbs",
    "postgresql": "postgres",
    "mariadb": "mysql",
}
#: Warehouses, whose tables have names with dots, and the ports they listen on where none is given.
_WAREHOUSES: Final = {
    "bigquery": None,
    "cassandra": 9042,
    "crate": None,
    "db2": 50000,
    "duckdb": None,
    "hive": 10000,
    "mssql": 1433,
    "mysql": 3306,
    "oracle": 1521,
    "postgres": 5432,
    "redshift": 5439,
    "snowflake": None,
    "sqlserver": 1433,
    "teradata": None,
    "trino": None,
    "unitycatalog": None,
}
#: Whose names begin with a slash.
_FILE_SYSTEMS: Final = {"abfss", "dbfs", "file", "hdfs"}
#: In whose authority `name@` is the container and no user.
_CONTAINERS: Final = {"abfss", "wasbs"}
#: Whose namespace is the scheme alone; what stands first in the path belongs to the name.
_WITHOUT_AUTHORITY: Final = {"bigquery"}

#: Under which the ids of OpenLineage's runs are derived from ours.
_RUNS: Final = uuid.UUID("3ea1595a-3f94-5e5f-ad13-580e48a7f969")


class DatasetName(NamedTuple):
    """What a dataset is known by.

    Attributes:
        namespace: The place it is kept in, such as `s3://landing` or `postgres://db:5432`.
        name: Its name there, such as `2026/orders.csv` or `shop.public.orders`.

    Example:
        >>> str(DatasetName("s3://landing", "2026/orders.csv"))
        's3://landing/2026/orders.csv'
    """

    namespace: str
    name: str

    def __str__(self) -> str:
        if self.namespace == "file":
            return self.name
        return f"{self.namespace}{'' if self.name.startswith('/') else '/'}{self.name}"


@dataclass(frozen=True, order=True, slots=True)
class JobName:
    """What a job, that is a pipeline or one of its stages, is known by.

    Attributes:
        namespace: Where it belongs; the name of the service, if nothing else is said.
        name: `orders` for a pipeline, `orders.extract` for a stage.
    """

    namespace: str
    name: str


def identify(dataset: object, namespace: str) -> DatasetName:
    """Return what a dataset is known by.

    User names, passwords, and the query of a URL are left out, as they may be secrets and are no
    part of the name.

    Args:
        dataset: A `DatasetName` (or a pair of namespace and name), which is taken as it is; a
            path or text with a slash, which is a file of this machine; a URL such as
            `s3://bucket/key` or `postgres://host/database/schema/table`; or a bare name.
        namespace: Where a bare name belongs.

    Raises:
        TypeError: It is none of these.
        ValueError: It names nothing.

    Example:
        >>> identify("s3a://landing/2026/orders.csv", "orders-etl")
        DatasetName(namespace='s3://landing', name='2026/orders.csv')
        >>> identify("postgresql://etl:secret@db/shop/public/orders", "orders-etl")
        DatasetName(namespace='postgres://db:5432', name='shop.public.orders')
        >>> identify("orders", "orders-etl")
        DatasetName(namespace='orders-etl', name='orders')
    """
    if isinstance(dataset, tuple):
        found = _of_pair(dataset)
    elif isinstance(dataset, os.PathLike):
        found = _of_file(os.fsdecode(os.fspath(dataset)))
    elif not isinstance(dataset, str):
        message = (
            f"a dataset is named by text, a path, or a pair of namespace and name, "
            f"not by a {type(dataset).__name__}"
        )
        raise TypeError(message)
    elif "://" in dataset:
        found = _of_url(dataset)
    elif "/" in dataset:
        found = _of_file(dataset)
    else:
        found = DatasetName(namespace, dataset.strip())
    if not found.namespace or not found.name.strip("/"):
        raise ValueError("the name of a dataset is empty")
    return DatasetName(found.namespace[:_MOST_CHARACTERS], found.name[:_MOST_CHARACTERS])


def _of_pair(pair: tuple[object, ...]) -> DatasetName:
    match pair:
        case (str(namespace), str(name)):
            return DatasetName(namespace.strip(), name.strip())
    raise TypeError("a dataset is named by a pair of two texts: its namespace and its name")


def _of_file(path: str) -> DatasetName:
    return DatasetName("file", os.path.abspath(os.path.expanduser(path)) if path else "")  # noqa: PTH100, PTH111  relative paths are told by where the program runs


def _of_url(url: str) -> DatasetName:
    try:
        parts = urlsplit(url.strip())
        scheme = parts.scheme.partition("+")[0]  # a driver, as SQLAlchemy writes it
        scheme = _SCHEMES.get(scheme, scheme)
        authority = _authority(parts, scheme)
    except ValueError:  # such as a port that is no number; its text may hold a password
        raise ValueError("the URL of a dataset cannot be read") from None
    path = parts.path
    if scheme in _WITHOUT_AUTHORITY:
        path, authority = f"{authority}/{path}", ""
    if scheme in _WAREHOUSES:
        name = ".".join(part for part in path.split("/") if part)
    else:
        name = path if scheme in _FILE_SYSTEMS else path.lstrip("/")
    if scheme == "file" and authority in {"", "localhost"}:
        return DatasetName("file", name)
    return DatasetName(f"{scheme}://{authority}" if authority else scheme, name)


def _authority(parts: SplitResult, scheme: str) -> str:
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    container = parts.username
    if scheme in _CONTAINERS and container and parts.password is None:
        host = f"{container}@{host}"
    port = parts.port or _WAREHOUSES.get(scheme)
    return f"{host}:{port}" if host and port else host


def run_uuid(job: JobName, run_id: str) -> str:
    """Return the UUID by which OpenLineage knows a run.

    It follows from the job and our id of the run, so that whoever knows those can compute it.

    Args:
        job: The pipeline's job: its namespace and name.
        run_id: The id of the run, as on its span and log lines.

    Example:
        >>> run_uuid(JobName("orders-etl", "orders"), "2026-11-23")
        'c626b805-78cd-57ad-8bd6-f8db40564194'
    """
    return str(uuid.uuid5(_RUNS, f"{job.namespace}\n{job.name}\n{run_id}"))
