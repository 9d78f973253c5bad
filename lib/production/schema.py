"""The tables of a production log, in SQLite or PostgreSQL."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from lib.errors import LogError, ParameterError, first_line
from lib.settings import read_setting
from lib.storage import production_dir

# Environment variables, or with _FILE behind them files
LOG_URL, LOG_PASSWORD = "LOG_URL", "LOG_PASSWORD"
BUSY_SECONDS = 1  # that SQLite waits for another process which writes

metadata = MetaData()

predictions = Table(
    "predictions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("task", String(80), nullable=False),
    Column("created", Float, nullable=False),  # seconds since 1970, UTC
    Column("version", String(80), nullable=False),
    Column("arm", String(20), nullable=False),  # champion, challenger, or shadow: nobody was told its answer
    Column("label", String(200), nullable=False),
    Column("probability", Float, nullable=False),
    Column("decision", String(20)),
    Column("distance", Float),  # 1 - cosine to the tenth nearest training image
    Column("milliseconds", Float, nullable=False),  # that the request took until the answer was ready
    Column("sha256", String(64), nullable=False),  # of the image file
    Column("kept", Boolean, nullable=False),  # whether the image was kept
    Column("vector", LargeBinary, nullable=False),  # float32, little-endian
    Column("backbone", String(80)),  # fingerprint of the network that gave the vector; unknown of earlier releases
    Column("client", String(32)),  # who asked, as a pseudonym; unknown of rows of earlier releases
    Column("shadow_of", String(32)),  # of a shadow: the prediction that was told instead
    Index("predictions_by_time", "task", "created"),
    Index("predictions_by_image", "task", "sha256"),
    Index("predictions_by_shadow", "shadow_of"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("prediction", String(32), ForeignKey("predictions.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("task", String(80), nullable=False),
    Column("created", Float, nullable=False),
    Column("label", String(200), nullable=False),
    Column("is_new", Boolean, nullable=False),  # whether the label was no class of the model that answered
    Column("idempotency_key", String(200)),
    Column("source", String(32)),  # who gave it, as a pseudonym; unknown of rows of earlier releases
    Index("feedback_once", "task", "idempotency_key", unique=True),
    sqlite_autoincrement=True,  # a number is never given twice
)

failures = Table(
    "failures",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("task", String(80), nullable=False),
    Column("created", Float, nullable=False),  # when they were counted, seconds since 1970
    Column("status", Integer, nullable=False),  # of HTTP
    Column("n", Integer, nullable=False),  # requests for a prediction that were answered so since the row before
    Index("failures_by_time", "task", "created"),
)


def prepare(engine: Engine) -> None:
    """Make the tables where they are missing, and add the columns that those of an earlier release lack."""
    metadata.create_all(engine)
    for table in metadata.sorted_tables:
        known = {column["name"] for column in inspect(engine).get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                kind = column.type.compile(engine.dialect)
                with engine.begin() as connection:
                    connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}"))
        for index in table.indexes:
            index.create(engine, checkfirst=True)


def connect_to(url: str) -> Engine:
    """An engine for a database's URL; nothing is opened yet.

    SQLite writes ahead and syncs at every commit, and a transaction takes the write lock as it begins: one that began
    by reading could not wait for it.

    Raises
    ------
    ParameterError
        If SQLAlchemy does not know such a URL.
    """
    engine = _create(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def default_url(task: str) -> str:
    """URL of a task's log: LOG_URL, else that of its own SQLite file, data/production/<task>/production.db."""
    return read_setting(LOG_URL) or f"sqlite:///{production_dir(task) / 'production.db'}"


@contextlib.contextmanager
def reading(task: str, url: str = "") -> Iterator[Connection]:
    """A connection that only reads, beside a service that writes; it locks nothing.

    A task that nobody has asked anything yet has an empty log; a log whose URL is given must be there.

    Parameters
    ----------
    task : str
    url : str
        Database, "" for `default_url`.

    Raises
    ------
    LogError
        If the log cannot be read.
    ParameterError
        As `connect_to`.
    """
    where = url or default_url(task)
    engine = _read_only(where)
    try:
        if not url and not _is_begun(engine, where):
            engine.dispose()
            engine = _empty()
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise LogError(f"The production log cannot be read: {first_line(cause)}.") from error
    finally:
        engine.dispose()


def _is_begun(engine: Engine, url: str) -> bool:
    """Whether a service has ever written to this log."""
    if engine.dialect.name == "sqlite":
        return Path(str(make_url(url).database)).exists()
    return inspect(engine).has_table(predictions.name)


def _empty() -> Engine:
    """A log without a row, in memory."""
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    return engine


def _read_only(url: str) -> Engine:
    """An engine whose connections cannot write."""
    engine = _create(url)
    if engine.dialect.name == "sqlite":
        engine = _create(f"sqlite:///file:{quote(str(engine.url.database))}?mode=ro&uri=true")
    else:
        engine = engine.execution_options(postgresql_readonly=True)
    return engine


def _create(url: str) -> Engine:
    """An engine for a URL; raises ParameterError if SQLAlchemy does not know such a one.

    A user without a password gets LOG_PASSWORD of the environment, so that the URL holds no secret.
    """
    try:
        target = make_url(url)
        if target.username and target.password is None and (password := read_setting(LOG_PASSWORD)):
            target = target.set(password=password)
        if target.get_dialect().driver == "psycopg" and "client_encoding" not in target.query:
            # Else text comes as bytes from a database made without an encoding (initdb where no LANG is set).
            target = target.update_query_dict({"client_encoding": "utf8"})
        return create_engine(target, pool_size=1, max_overflow=0, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, TypeError, ValueError) as error:
        raise ParameterError(
            f"{url.split('@')[-1]!r} is no database URL that can be used ({error}); give sqlite:///PATH or "
            "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE."
        ) from None


def _set_up_sqlite(connection: Any, record: object) -> None:
    """Pragmas of a new connection; transactions are begun by us, not by Python's module."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={1000 * BUSY_SECONDS}", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
