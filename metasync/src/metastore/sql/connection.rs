//! One connection to one of three databases: statements with plain values in, rows of plain values out.
//!
//! Every call ends within the connection's limit; one that did not leaves the connection unusable, and the transaction on it
//! is rolled back by the server when the socket closes. A crash leaves nothing half-written: what is not committed is gone.

use super::dialect::Dialect;
use super::error::{Doing, from_sqlx};
use super::url::{Server, SqlUrl, Tls, TlsMode, Where};
use super::value::{Array, Row, Value};
use crate::metastore::{Error, Result, Version};
use futures::TryStreamExt as _;
use manifest::Class;
use sqlx::error::BoxDynError;
use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlSslMode};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{Arguments as _, AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Row as _, TypeInfo as _};
use sqlx::{ValueRef as _, query_as, query_with};
use std::collections::HashMap;
use std::time::Duration;

/// Statements that a connection keeps prepared: ours are few, but for the lists of ids, which are not kept.
const PREPARED_STATEMENTS: usize = 200;

/// Rows that SQLite's thread may be ahead of us.
const SQLITE_ROWS_AHEAD: usize = 1000;

/// What MySQL and MariaDB must do so that a value is stored as it is or not at all, and that identifiers are quoted as in
/// standard SQL.
const MYSQL_SESSION: &str = "SET SESSION sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES,STRICT_TRANS_TABLES,\
    NO_ENGINE_SUBSTITUTION,NO_BACKSLASH_ESCAPES', innodb_lock_wait_timeout = 30";

/// Plans know nothing of the values: for those of a table that has grown since PostgreSQL last looked at its statistics it
/// would take the index of all partitions of a table to be as good as that of their names, and read 100,000 rows for each
/// name. (For one that does not know the value, a table of one large table's partitions is best read whole; hence
/// [`POSTGRES_BY_INDEX`].) Before version 12 there is no such setting.
const POSTGRES_PLANS: &str = "SELECT set_config(name, 'force_generic_plan', false) FROM pg_settings \
    WHERE name = 'plan_cache_mode'";

/// Rows are found by key. PostgreSQL keeps the plan of a foreign key's check for the whole session: made while a table was
/// nearly empty, it would read the whole table for each of a million rows. Its price for the other way where there is no index
/// would set off the compiler of plans (`jit`), 100 ms a statement.
const POSTGRES_BY_INDEX: &str = "SET enable_seqscan = off; SET jit = off";
/// From which version on PostgreSQL hashes a row as it is.
const POSTGRES_HASHES_ROWS: u32 = 140_000;

/// Limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct SqlLimits {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until a statement is done.
    pub statement: Duration,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(20), statement: Duration::from_secs(300) }
    }
}

/// Whether a connection may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    /// Also makes the file of SQLite.
    Create,
}

pub(crate) struct Connection {
    inner: Inner,
    dialect: Dialect,
    place: String,
    limit: Duration,
    version: Version,
    /// In a transaction: which tables have rows, of those that were asked for.
    has_rows: HashMap<&'static str, bool>,
}

enum Inner {
    Postgres(Box<PgConnection>),
    MySql(Box<MySqlConnection>),
    Sqlite(Box<SqliteConnection>),
}

impl Connection {
    pub(crate) async fn open(url: &SqlUrl, access: Access, limits: SqlLimits) -> Result<Self> {
        let place = url.to_string();
        let dialect = match &url.0 {
            Where::Server(server) => server.dialect,
            Where::File(_) => Dialect::Sqlite,
        };
        let doing = Doing { operation: "connect", place: &place, limit: limits.connect, version: Version::V4_1 };
        if let Where::File(path) = &url.0
            && access != Access::Create
            && !path.exists()
        {
            let why = "there is no such file; `metasync metastore init` makes one".to_owned();
            return Err(Error::NotAMetastore { place, why });
        }
        let inner = match tokio::time::timeout(limits.connect, connect(url, access)).await {
            Err(_) => {
                let operation = doing.operation.to_owned();
                return Err(Error::Silent { operation, place, limit: limits.connect });
            }
            Ok(Err(error)) => return Err(from_sqlx(error, doing)),
            Ok(Ok(inner)) => inner,
        };
        let mut connection =
            Self { inner, dialect, place, limit: limits.statement, version: Version::V4_1, has_rows: HashMap::new() };
        match dialect {
            Dialect::MySql => connection.command(MYSQL_SESSION).await?,
            Dialect::Postgres => {
                let limit = limits.statement.as_millis();
                connection.command(&format!("SET statement_timeout = {limit}")).await?;
                connection.command(POSTGRES_PLANS).await?;
                connection.command(POSTGRES_BY_INDEX).await?;
            }
            Dialect::Sqlite => {}
        }
        Ok(connection)
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// What errors name as the metastore's version.
    pub(crate) fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// A statement without parameters or rows, as it stands.
    pub(crate) async fn command(&mut self, sql: &str) -> Result<()> {
        self.execute(sql, &[]).await.map(|_| ())
    }

    /// Runs a statement; how many rows it touched (found, not changed).
    pub(crate) async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64> {
        let sql = AssertSqlSafe(self.dialect.statement(sql));
        let doing = self.doing();
        let done = async {
            // Commands that set up a session or a transaction cannot be prepared everywhere.
            match (&mut self.inner, values.is_empty()) {
                (Inner::Postgres(connection), true) => {
                    sqlx::raw_sql(sql).execute(&mut **connection).await.map(|done| done.rows_affected())
                }
                (Inner::MySql(connection), true) => {
                    sqlx::raw_sql(sql).execute(&mut **connection).await.map(|done| done.rows_affected())
                }
                (Inner::Sqlite(connection), true) => {
                    sqlx::raw_sql(sql).execute(&mut **connection).await.map(|done| done.rows_affected())
                }
                (Inner::Postgres(connection), false) => query_with(sql, postgres_arguments(values)?)
                    .execute(&mut **connection)
                    .await
                    .map(|done| done.rows_affected()),
                // Kept, whatever it is: see `query`.
                (Inner::MySql(connection), false) => query_with(sql, mysql_arguments(values)?)
                    .persistent(true)
                    .execute(&mut **connection)
                    .await
                    .map(|done| done.rows_affected()),
                (Inner::Sqlite(connection), false) => query_with(sql, sqlite_arguments(values)?)
                    .execute(&mut **connection)
                    .await
                    .map(|done| done.rows_affected()),
            }
        };
        finish(tokio::time::timeout(self.limit, done).await, doing, &self.place)
    }

    /// Rows of a query. The caller bounds how many there can be.
    pub(crate) async fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>> {
        let sql = AssertSqlSafe(self.dialect.statement(sql));
        let (keep, doing) = (!values.is_empty(), self.doing());
        let rows = async {
            match &mut self.inner {
                Inner::Postgres(connection) => {
                    let query = query_with(sql, postgres_arguments(values)?).persistent(keep);
                    let rows = query.fetch(&mut **connection);
                    rows.and_then(|row| std::future::ready(postgres_row(&row))).try_collect().await
                }
                // Not prepared, as it would not be kept: behind the message that gives a statement up, to which there is no
                // answer, the next one waits 40 ms for the server's delayed acknowledgement, because sqlx 0.9.0 leaves
                // Nagle's algorithm on.
                Inner::MySql(connection) if values.is_empty() => {
                    let rows = sqlx::raw_sql(sql).fetch(&mut **connection);
                    rows.and_then(|row| std::future::ready(mysql_row(&row))).try_collect().await
                }
                Inner::MySql(connection) => {
                    let query = query_with(sql, mysql_arguments(values)?).persistent(keep);
                    let rows = query.fetch(&mut **connection);
                    rows.and_then(|row| std::future::ready(mysql_row(&row))).try_collect().await
                }
                Inner::Sqlite(connection) => {
                    let query = query_with(sql, sqlite_arguments(values)?).persistent(keep);
                    let rows = query.fetch(&mut **connection);
                    rows.and_then(|row| std::future::ready(sqlite_row(&row))).try_collect().await
                }
            }
        };
        finish(tokio::time::timeout(self.limit, rows).await, doing, &self.place)
    }

    /// In a transaction: whether what follows reads tables as a whole. Other reads are by key (`POSTGRES_BY_INDEX`).
    pub(crate) async fn read_whole_tables(&mut self, whole: bool) -> Result<()> {
        match self.dialect {
            Dialect::Postgres if whole => self.command("SET LOCAL enable_seqscan = on").await,
            Dialect::Postgres => self.command("SET LOCAL enable_seqscan = off").await,
            Dialect::MySql | Dialect::Sqlite => Ok(()),
        }
    }

    /// How many rows a table has, and the sum of their hashes: whatever their order, and however many they are. PostgreSQL
    /// does both by itself; `None` before the version that can.
    pub(crate) async fn digest(&mut self, table: &str) -> Result<Option<(u64, String)>> {
        let doing = self.doing();
        let sql = AssertSqlSafe(self.dialect.statement(&format!("SELECT * FROM \"{table}\"")));
        let mut total = Total::default();
        let rows = async {
            match &mut self.inner {
                Inner::Postgres(connection) => {
                    if connection.server_version_num().is_none_or(|version| version < POSTGRES_HASHES_ROWS) {
                        return Ok(None);
                    }
                    let row = query_as::<_, (i64, String)>(AssertSqlSafe(format!(
                        "SELECT COUNT(*), COALESCE(SUM(HASH_RECORD_EXTENDED(t, 0)::numeric), 0)::text FROM \"{table}\" t"
                    )));
                    let (rows, sum) = row.fetch_one(&mut **connection).await?;
                    return Ok(Some((rows.cast_unsigned(), sum)));
                }
                Inner::MySql(connection) => {
                    let mut rows = sqlx::raw_sql(sql).fetch(&mut **connection);
                    while let Some(row) = rows.try_next().await? {
                        total.add(&mysql_row(&row)?);
                    }
                }
                Inner::Sqlite(connection) => {
                    let mut rows = sqlx::raw_sql(sql).fetch(&mut **connection);
                    while let Some(row) = rows.try_next().await? {
                        total.add(&sqlite_row(&row)?);
                    }
                }
            }
            Ok(Some((total.rows, format!("{:032x}", total.sum))))
        };
        finish(tokio::time::timeout(self.limit, rows).await, doing, &self.place)
    }

    pub(crate) async fn begin_snapshot(&mut self) -> Result<()> {
        for command in self.dialect.begin_snapshot() {
            self.command(command).await?;
        }
        self.has_rows.clear();
        Ok(())
    }

    /// Whether a table may have rows: in a transaction it is asked once. Many of Hive's tables are empty in most metastores.
    /// In a snapshot what is empty then stays so; in a transaction that writes until it writes there itself, and what others
    /// write meanwhile belongs to what they write.
    pub(crate) async fn may_have_rows(&mut self, table: &'static str) -> Result<bool> {
        if let Some(known) = self.has_rows.get(table) {
            return Ok(*known);
        }
        let found = !self.query(&format!("SELECT 1 FROM \"{table}\" LIMIT 1"), &[]).await?.is_empty();
        self.has_rows.insert(table, found);
        Ok(found)
    }

    /// Says that rows are written into a table.
    pub(crate) fn gets_rows(&mut self, table: &'static str) {
        self.has_rows.insert(table, true);
    }

    pub(crate) async fn begin_write(&mut self) -> Result<()> {
        self.has_rows.clear();
        for command in self.dialect.begin_write() {
            self.command(command).await?;
        }
        Ok(())
    }

    pub(crate) async fn commit(&mut self) -> Result<()> {
        self.command("COMMIT").await
    }

    /// Gives up a transaction. A connection that cannot even do that is dropped by its owner, which does the same.
    pub(crate) async fn rollback(&mut self) -> Result<()> {
        self.command("ROLLBACK").await
    }

    /// Says goodbye; a server that does not hear it notices the closed socket.
    pub(crate) async fn close(self) {
        let closed = async {
            match self.inner {
                Inner::Postgres(connection) => connection.close().await,
                Inner::MySql(connection) => connection.close().await,
                Inner::Sqlite(connection) => connection.close().await,
            }
        };
        // Whatever happens here changes nothing: no transaction is open any more.
        let _ = tokio::time::timeout(self.limit, closed).await;
    }

    fn doing(&self) -> (&'static str, Duration, Version) {
        ("run a statement", self.limit, self.version)
    }
}

/// Hashes of rows, added up.
#[derive(Default)]
struct Total {
    rows: u64,
    sum: u128,
    /// The row at hand.
    bytes: Vec<u8>,
}

impl Total {
    fn add(&mut self, row: &Row) {
        self.bytes.clear();
        row.0.iter().for_each(|value| value.write(&mut self.bytes));
        let mut half = [0; 16];
        half.copy_from_slice(&blake3::hash(&self.bytes).as_bytes()[..16]);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(half));
    }
}

fn finish<T>(
    done: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
    (operation, limit, version): (&'static str, Duration, Version),
    place: &str,
) -> Result<T> {
    match done {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(from_sqlx(error, Doing { operation, place, limit, version })),
        Err(_) => Err(Error::Silent { operation: operation.to_owned(), place: place.to_owned(), limit }),
    }
}

async fn connect(url: &SqlUrl, access: Access) -> Result<Inner, sqlx::Error> {
    Ok(match &url.0 {
        Where::Server(server) if server.dialect == Dialect::MySql => {
            Inner::MySql(Box::new(mysql_options(server).connect().await?))
        }
        Where::Server(server) => Inner::Postgres(Box::new(postgres_options(server).connect().await?)),
        Where::File(path) => {
            let mut options = SqliteConnectOptions::new()
                .filename(path)
                .foreign_keys(true)
                .busy_timeout(Duration::from_secs(30))
                .row_buffer_size(SQLITE_ROWS_AHEAD)
                .statement_cache_capacity(PREPARED_STATEMENTS)
                .create_if_missing(access == Access::Create)
                .read_only(access == Access::Read)
                .disable_statement_logging();
            if access != Access::Read {
                // FULL: what was committed is there after a power cut, too.
                options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
            }
            Inner::Sqlite(Box::new(options.connect().await?))
        }
    })
}

fn postgres_options(server: &Server) -> PgConnectOptions {
    let Tls { mode, root_certificate, client_certificate, client_key } = &server.tls;
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .password(server.password.as_deref().unwrap_or_default())
        .database(&server.database)
        .application_name("understudy")
        .statement_cache_capacity(PREPARED_STATEMENTS)
        .extra_float_digits(3)
        .ssl_mode(match mode {
            TlsMode::Disable => PgSslMode::Disable,
            TlsMode::Prefer => PgSslMode::Prefer,
            TlsMode::Require => PgSslMode::Require,
            TlsMode::VerifyCa => PgSslMode::VerifyCa,
            TlsMode::VerifyFull => PgSslMode::VerifyFull,
        });
    if let Some(path) = root_certificate {
        options = options.ssl_root_cert(path);
    }
    if let (Some(certificate), Some(key)) = (client_certificate, client_key) {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    if let Some(schema) = &server.schema {
        options = options.options([("search_path", format!("\"{schema}\""))]);
    }
    options.disable_statement_logging()
}

fn mysql_options(server: &Server) -> MySqlConnectOptions {
    let Tls { mode, root_certificate, client_certificate, client_key } = &server.tls;
    let mut options = MySqlConnectOptions::new()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .database(&server.database)
        .statement_cache_capacity(PREPARED_STATEMENTS)
        .ssl_mode(match mode {
            TlsMode::Disable => MySqlSslMode::Disabled,
            TlsMode::Prefer => MySqlSslMode::Preferred,
            TlsMode::Require => MySqlSslMode::Required,
            TlsMode::VerifyCa => MySqlSslMode::VerifyCa,
            TlsMode::VerifyFull => MySqlSslMode::VerifyIdentity,
        });
    if let Some(password) = &server.password {
        options = options.password(password);
    }
    if let Some(path) = root_certificate {
        options = options.ssl_ca(path);
    }
    if let (Some(certificate), Some(key)) = (client_certificate, client_key) {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    options.disable_statement_logging()
}

macro_rules! arguments {
    ($name:ident, $arguments:ty, $array:expr) => {
        fn $name(values: &[Value]) -> Result<$arguments, sqlx::Error> {
            let mut arguments = <$arguments>::default();
            arguments.reserve(values.len(), values.iter().map(Value::size).sum());
            for value in values {
                match value {
                    Value::Null => arguments.add(None::<String>),
                    Value::Bool(value) => arguments.add(*value),
                    Value::Int(value) => arguments.add(*value),
                    Value::Float(value) => arguments.add(*value),
                    Value::Text(value) => arguments.add(value.clone()),
                    Value::Bytes(value) => arguments.add(value.clone()),
                    Value::Array(array) => $array(&mut arguments, array),
                }
                .map_err(sqlx::Error::Encode)?;
            }
            Ok(arguments)
        }
    };
}

arguments!(postgres_arguments, PgArguments, add_array);
arguments!(mysql_arguments, MySqlArguments, no_array);
arguments!(sqlite_arguments, SqliteArguments, no_array);

fn add_array(arguments: &mut PgArguments, array: &Array) -> Result<(), BoxDynError> {
    match array {
        Array::Bool(values) => arguments.add(values),
        Array::Int(values) => arguments.add(values),
        Array::Float(values) => arguments.add(values),
        Array::Text(values) => arguments.add(values),
        Array::Bytes(values) => arguments.add(values),
    }
}

fn no_array<T>(_: &mut T, _: &Array) -> Result<(), BoxDynError> {
    Err("arrays are for PostgreSQL".into())
}

fn unreadable(column: &str, kind: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the column {column} is of type {kind}, which no metastore has").into())
}

fn postgres_row(row: &PgRow) -> Result<Row, sqlx::Error> {
    let mut values = Vec::with_capacity(row.len());
    for (at, column) in row.columns().iter().enumerate() {
        if row.try_get_raw(at)?.is_null() {
            values.push(Value::Null);
            continue;
        }
        values.push(match column.type_info().name() {
            "INT8" => Value::Int(row.try_get_unchecked(at)?),
            "INT4" => row.try_get_unchecked::<i32, _>(at)?.into(),
            "INT2" => Value::Int(row.try_get_unchecked::<i16, _>(at)?.into()),
            "VARCHAR" | "TEXT" | "CHAR" | "NAME" | "\"CHAR\"" | "BPCHAR" => Value::Text(row.try_get_unchecked(at)?),
            "BOOL" => Value::Bool(row.try_get_unchecked(at)?),
            "FLOAT8" => Value::Float(row.try_get_unchecked(at)?),
            "FLOAT4" => Value::Float(row.try_get_unchecked::<f32, _>(at)?.into()),
            "BYTEA" => Value::Bytes(row.try_get_unchecked(at)?),
            other => return Err(unreadable(column.name(), other)),
        });
    }
    Ok(Row(values))
}

fn mysql_row(row: &MySqlRow) -> Result<Row, sqlx::Error> {
    let mut values = Vec::with_capacity(row.len());
    for (at, column) in row.columns().iter().enumerate() {
        if row.try_get_raw(at)?.is_null() {
            values.push(Value::Null);
            continue;
        }
        values.push(match column.type_info().name() {
            "BIGINT" | "INT" | "MEDIUMINT" | "SMALLINT" | "TINYINT" | "BOOLEAN" => {
                Value::Int(row.try_get_unchecked(at)?)
            }
            "BIT" => Value::Bool(row.try_get_unchecked::<u64, _>(at)? != 0),
            unsigned if unsigned.ends_with("UNSIGNED") => {
                let number: u64 = row.try_get_unchecked(at)?;
                Value::Int(i64::try_from(number).map_err(|error| sqlx::Error::Decode(error.into()))?)
            }
            "DOUBLE" => Value::Float(row.try_get_unchecked(at)?),
            "FLOAT" => Value::Float(row.try_get_unchecked::<f32, _>(at)?.into()),
            "VARCHAR" | "CHAR" | "TEXT" | "TINYTEXT" | "MEDIUMTEXT" | "LONGTEXT" | "ENUM" => {
                Value::Text(row.try_get_unchecked(at)?)
            }
            // Texts with a binary collation look like bytes; who reads the column knows which it is.
            "VARBINARY" | "BINARY" | "BLOB" | "TINYBLOB" | "MEDIUMBLOB" | "LONGBLOB" => {
                Value::Bytes(row.try_get_unchecked(at)?)
            }
            other => return Err(unreadable(column.name(), other)),
        });
    }
    Ok(Row(values))
}

fn sqlite_row(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    let mut values = Vec::with_capacity(row.len());
    for at in 0..row.len() {
        let raw = row.try_get_raw(at)?;
        // The type of the value, not of the column: SQLite has both.
        let kind = if raw.is_null() { "NULL".to_owned() } else { raw.type_info().name().to_owned() };
        values.push(match kind.as_str() {
            "NULL" => Value::Null,
            "INTEGER" | "BOOLEAN" => Value::Int(row.try_get_unchecked(at)?),
            "REAL" => Value::Float(row.try_get_unchecked(at)?),
            "TEXT" => Value::Text(row.try_get_unchecked(at)?),
            "BLOB" => Value::Bytes(row.try_get_unchecked(at)?),
            other => return Err(unreadable(row.column(at).name(), other)),
        });
    }
    Ok(Row(values))
}

/// What is not possible in a state that only a mistake of ours leads to.
pub(crate) fn mistake(operation: &str, why: &str) -> Error {
    Error::Failed {
        operation: operation.to_owned(),
        object: "a metastore".to_owned(),
        why: why.to_owned(),
        class: Class::Permanent,
    }
}
