//! From a URL to a metastore: which adapter, which options, which password.
//!
//! The one place that reads what the process may know: its variables (handed in) and small files that a URL names. A password
//! is taken from the URL; from `env:NAME` or `file:PATH` in its place; for PostgreSQL from `$PGPASSWORD`, then from
//! `$PGPASSFILE` or `~/.pgpass`; for MySQL from `$MYSQL_PWD`. It is never in an error.

mod pgpass;

use super::sql::{self, SqlLimits, SqlMetastore, SqlUrl};
use super::thrift::{Options, ThriftMetastore, Tls};
use super::{Error, Metastore, Result};
use distcp::settings::{Environment, Secret, resolve};
use std::path::{Path, PathBuf};

/// Certificates and password files are no larger than this.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// What a thrift URL may say behind its `?`.
const THRIFT_OPTIONS: [&str; 5] = ["ca", "connections", "framed", "tls", "user"];

/// Reaches the metastore at a URL: `thrift://host:port[,host:port]`, `postgres://user@host/database`,
/// `mysql://user@host/database`, `sqlite:///path`. Behind a `?` a thrift URL takes `framed=true`, `tls=true`, `ca=FILE`
/// (PEM), `user=NAME` and `connections=N`; the others what [`SqlUrl::parse`] says.
pub async fn open(url: &str, environment: &Environment) -> Result<Box<dyn Metastore>> {
    open_target(url, environment, false).await
}

/// As [`open`], for writing; with `events` a metastore in a database logs what it is told to change
/// ([`SqlMetastore::with_events`]). Behind Thrift the server does, or does not, as it is set up.
pub async fn open_target(url: &str, environment: &Environment, events: bool) -> Result<Box<dyn Metastore>> {
    if url.starts_with("thrift:") {
        let (address, options) = thrift_options(url)?;
        return Ok(Box::new(ThriftMetastore::open(address, options).await?));
    }
    if !SqlUrl::is_one(url) {
        let why = "is not one of thrift://, postgres://, mysql:// and sqlite://".to_owned();
        let scheme = url.split_once(':').map_or("this", |(scheme, _)| scheme);
        return Err(Error::Url { url: scheme.to_owned(), why });
    }
    let mut parsed = SqlUrl::parse(url, &|value| secret(value, environment))?;
    if let Some(login) = parsed.login()
        && !login.has_password
        && let Some(password) = password(&login, environment)
    {
        parsed.set_password(password);
    }
    let metastore = SqlMetastore::open(parsed, SqlLimits::default()).await?;
    Ok(Box::new(if events { metastore.with_events() } else { metastore }))
}

/// Makes an empty metastore at a `sqlite:` URL.
///
/// # Errors
/// Another kind of URL; a file that holds anything.
pub async fn init(url: &str) -> Result<()> {
    if !SqlUrl::is_one(url) {
        let why = "only a sqlite: URL can be made a metastore here; Hive's schematool makes the others".to_owned();
        return Err(Error::Url { url: url.split_once(':').map_or("this", |(scheme, _)| scheme).to_owned(), why });
    }
    let url = SqlUrl::parse(url, &|_| Err("is not needed here".to_owned()))?;
    sql::init(&url, SqlLimits::default()).await
}

/// The file that a `sqlite:` URL names; `None` for other URLs.
pub fn sqlite_file(url: &str) -> Result<Option<PathBuf>> {
    let file = SqlUrl::is_one(url).then(|| SqlUrl::parse(url, &|_| Ok(String::new()))).transpose()?;
    Ok(file.as_ref().and_then(SqlUrl::path).map(Path::to_owned))
}

/// Copies the metastore at a `sqlite:` URL to a file that is not there yet, as of one moment, whoever uses it.
pub async fn copy_sqlite(url: &str, to: &Path) -> Result<()> {
    sql::copy(&SqlUrl::parse(url, &|_| Ok(String::new()))?, SqlLimits::default(), to).await
}

/// Whether a `sqlite:` URL names a file that is not there; of other metastores nobody knows before they are asked.
pub fn is_missing(url: &str) -> Result<bool> {
    Ok(sqlite_file(url)?.is_some_and(|path| path.metadata().map_or(0, |file| file.len()) == 0))
}

/// Makes an empty metastore where a `sqlite:` URL names a file that is not there, or that a run which was killed left
/// empty; other metastores are as they are.
pub async fn init_missing(url: &str) -> Result<()> {
    if !SqlUrl::is_one(url) || SqlUrl::parse(url, &|_| Ok(String::new()))?.path().is_none() {
        return Ok(());
    }
    match init(url).await {
        // Something is in it: opening says whether it is a metastore.
        Err(Error::Conflict { .. }) => Ok(()),
        other => other,
    }
}

/// Who logs in where, for finding a password.
pub(crate) struct Login {
    /// `postgres` or `mysql`.
    pub(crate) is_postgres: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) has_password: bool,
}

fn secret(value: &str, environment: &Environment) -> std::result::Result<String, String> {
    resolve(&Secret::new(value), environment).map(|secret| secret.reveal().to_owned())
}

fn password(login: &Login, environment: &Environment) -> Option<String> {
    if !login.is_postgres {
        return environment.get("MYSQL_PWD").map(str::to_owned);
    }
    if let Some(password) = environment.get("PGPASSWORD") {
        return Some(password.to_owned());
    }
    let file = match environment.get("PGPASSFILE") {
        Some(path) => PathBuf::from(path),
        None => environment.home.as_ref()?.join(".pgpass"),
    };
    pgpass::find(&pgpass::read(&file)?, login)
}

fn thrift_options(url: &str) -> Result<(&str, Options)> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let wrong = |why: String| Error::Url { url: url.to_owned(), why };
    let mut options = Options::default();
    let (mut tls, mut authorities) = (false, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
        let flag = || match value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(wrong(format!("{key} is true or false, not `{value}`"))),
        };
        match key {
            "framed" => options.framed = flag()?,
            "tls" => tls = flag()?,
            "ca" => authorities = Some(small_file(Path::new(value)).map_err(|why| wrong(format!("ca: {why}")))?),
            "user" => options.user = Some(value.to_owned()),
            "connections" => {
                options.connections = value
                    .parse()
                    .ok()
                    .filter(|number| (1..=64).contains(number))
                    .ok_or_else(|| wrong(format!("connections is a number from 1 to 64, not `{value}`")))?;
            }
            _ => {
                let hint = distcp::place::nearest(key, THRIFT_OPTIONS);
                return Err(wrong(format!("has the unknown option {key}{hint}")));
            }
        }
    }
    if authorities.is_some() && !tls {
        return Err(wrong("ca means nothing without tls=true".to_owned()));
    }
    options.tls = tls.then_some(Tls { authorities });
    Ok((address, options))
}

fn small_file(path: &Path) -> std::result::Result<Vec<u8>, String> {
    let read = || {
        if std::fs::metadata(path)?.len() > MAX_FILE_BYTES {
            return Err(std::io::Error::other("it is larger than 1 MiB"));
        }
        std::fs::read(path)
    };
    read().map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thrift_url_says_how_to_speak() {
        let (address, options) = thrift_options("thrift://a:1,b:2?framed=true&user=etl&connections=8").unwrap();
        assert_eq!(address, "thrift://a:1,b:2");
        assert!(options.framed && options.tls.is_none());
        assert_eq!((options.user.as_deref(), options.connections), (Some("etl"), 8));
        assert!(thrift_options("thrift://a?tls=true").unwrap().1.tls.is_some());
    }

    #[test]
    fn what_a_thrift_url_cannot_say_is_refused() {
        for (query, word) in [
            ("frame=true", "did you mean \"framed\""),
            ("framed=yes", "true or false"),
            ("connections=0", "from 1 to 64"),
            ("ca=/nowhere", "cannot read /nowhere"),
        ] {
            let error = thrift_options(&format!("thrift://a?{query}")).unwrap_err().to_string();
            assert!(error.contains(word), "{query}: {error}");
        }
    }

    #[tokio::test]
    async fn a_url_of_another_kind_is_refused_and_its_password_not_shown() {
        let error = open("oracle://me:secret@host/x", &Environment::default()).await.err().unwrap().to_string();
        assert!(error.contains("oracle") && !error.contains("secret"), "{error}");
        let error = init("postgres://me:secret@host/x").await.unwrap_err().to_string();
        assert!(error.contains("schematool") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_password_comes_from_the_variables_in_the_order_that_people_know() {
        let login = |is_postgres| Login {
            is_postgres,
            host: "db".to_owned(),
            port: 5432,
            user: "hive".to_owned(),
            database: "m".to_owned(),
            has_password: false,
        };
        let variables = [("PGPASSWORD", "p"), ("MYSQL_PWD", "m")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let environment = Environment { variables, home: None };
        assert_eq!(password(&login(true), &environment).as_deref(), Some("p"));
        assert_eq!(password(&login(false), &environment).as_deref(), Some("m"));
        assert_eq!(password(&login(true), &Environment::default()), None);
    }
}
