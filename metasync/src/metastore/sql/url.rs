//! URLs of metastores in databases: `postgres://user:password@host:port/database`, `mysql://`, `sqlite:///path`.
//!
//! Reads no environment and no file: a password `env:NAME` or `file:PATH` goes to a function of the caller. A password is
//! never printed, neither by `Debug` nor by `Display` nor in an error.

use super::dialect::Dialect;
use crate::metastore::open::Login;
use crate::metastore::{Error, Result};
use percent_encoding::percent_decode_str;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a metastore's database is, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub struct SqlUrl(pub(crate) Where);

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Where {
    Server(Server),
    /// A SQLite file.
    File(PathBuf),
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) dialect: Dialect,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    pub(crate) database: String,
    pub(crate) tls: Tls,
    /// PostgreSQL's `search_path`.
    pub(crate) schema: Option<String>,
}

/// How a connection is encrypted; the words are PostgreSQL's.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) mode: TlsMode,
    pub(crate) root_certificate: Option<PathBuf>,
    pub(crate) client_certificate: Option<PathBuf>,
    pub(crate) client_key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TlsMode {
    Disable,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Turns a password that is said as `env:NAME` or `file:PATH` into the password. Errors: why not, without the password.
pub type Resolve<'a> = &'a dyn Fn(&str) -> std::result::Result<String, String>;

impl SqlUrl {
    /// Whether a URL is one of a database: `postgres`, `postgresql`, `mysql`, `mariadb`, `sqlite`.
    pub fn is_one(url: &str) -> bool {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        matches!(scheme, "postgres" | "postgresql" | "mysql" | "mariadb" | "sqlite")
    }

    /// Who logs in where; `None` for a file.
    pub(crate) fn login(&self) -> Option<Login> {
        let Where::Server(server) = &self.0 else { return None };
        Some(Login {
            is_postgres: server.dialect == Dialect::Postgres,
            host: server.host.clone(),
            port: server.port,
            user: server.user.clone(),
            database: server.database.clone(),
            has_password: server.password.is_some(),
        })
    }

    /// Reads a URL. User, password and database may be percent-encoded; a password may also hold `/` and `@` as they are.
    /// Query parameters: `sslmode` (`disable`, `prefer`, `require`, `verify-ca`, `verify-full`), `sslrootcert`, `sslcert`,
    /// `sslkey`, and for PostgreSQL `schema`. Errors: [`Error::Url`].
    pub fn parse(url: &str, resolve: Resolve<'_>) -> Result<Self> {
        let wrong = |why: &str| Error::Url { url: redacted(url), why: why.to_owned() };
        let (scheme, rest) = url.split_once(':').ok_or_else(|| wrong("no scheme"))?;
        let (dialect, port) = match scheme {
            "postgres" | "postgresql" => (Dialect::Postgres, 5432),
            "mysql" | "mariadb" => (Dialect::MySql, 3306),
            "sqlite" => {
                return file(rest).map(|path| Self(Where::File(path))).ok_or_else(|| wrong("no path of a file"));
            }
            _ => return Err(wrong("not the URL of a database: postgres, mysql or sqlite")),
        };
        let rest = rest.strip_prefix("//").ok_or_else(|| wrong("no // behind the scheme"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (login, rest) = rest.rsplit_once('@').ok_or_else(|| wrong("no user, as in user@host"))?;
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let decode = |text: &str, what: &str| match percent_decode_str(text).decode_utf8() {
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(wrong(&format!("the {what} is not UTF-8"))),
        };
        let (address, database) = rest.split_once('/').ok_or_else(|| wrong("no database, as in host/database"))?;
        let (host, port) = match address.rsplit_once(':') {
            Some((host, number)) if !number.ends_with(']') => {
                (host, number.parse().map_err(|_| wrong("the port is not a number"))?)
            }
            _ => (address, port),
        };
        if user.is_empty() || host.is_empty() || database.is_empty() {
            return Err(wrong("user, host and database are needed"));
        }
        let password = match password.map(|password| decode(password, "password")).transpose()? {
            Some(named) if named.starts_with("env:") || named.starts_with("file:") => {
                Some(resolve(&named).map_err(|why| wrong(&format!("the password: {why}")))?)
            }
            literal => literal,
        };
        let mut server = Server {
            dialect,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            user: decode(user, "user")?,
            password,
            database: decode(database, "database")?,
            tls: Tls::default(),
            schema: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value, key)?;
            match key {
                "sslmode" => {
                    server.tls.mode = tls_mode(&value).ok_or_else(|| {
                        wrong("sslmode is one of disable, prefer, require, verify-ca and verify-full")
                    })?;
                }
                "sslrootcert" => server.tls.root_certificate = Some(value.into()),
                "sslcert" => server.tls.client_certificate = Some(value.into()),
                "sslkey" => server.tls.client_key = Some(value.into()),
                "schema" if dialect == Dialect::Postgres => server.schema = Some(value),
                _ => return Err(wrong(&format!("the parameter `{key}` is not known"))),
            }
        }
        Ok(Self(Where::Server(server)))
    }

    /// The SQLite file that is meant, if one is.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Where::File(path) => Some(path),
            Where::Server(_) => None,
        }
    }

    /// A SQLite file.
    pub fn file(path: &Path) -> Self {
        Self(Where::File(path.to_owned()))
    }

    /// Whether a server is meant and no password is said: the caller may know one.
    pub fn lacks_password(&self) -> bool {
        matches!(&self.0, Where::Server(server) if server.password.is_none())
    }

    /// Sets the password; a file has none.
    pub fn set_password(&mut self, password: String) {
        if let Where::Server(server) = &mut self.0 {
            server.password = Some(password);
        }
    }
}

/// Without the password.
impl fmt::Display for SqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Where::File(path) => write!(f, "sqlite://{}", path.display()),
            Where::Server(server) => {
                let scheme = if server.dialect == Dialect::MySql { "mysql" } else { "postgres" };
                let host = if server.host.contains(':') { format!("[{}]", server.host) } else { server.host.clone() };
                write!(f, "{scheme}://{}@{host}:{}/{}", server.user, server.port, server.database)
            }
        }
    }
}

/// Without the password.
impl fmt::Debug for SqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlUrl({self})")
    }
}

/// `///path`, `//relative`, `path`.
fn file(rest: &str) -> Option<PathBuf> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let path = percent_decode_str(path).decode_utf8().ok()?;
    (!path.is_empty()).then(|| PathBuf::from(path.as_ref()))
}

fn tls_mode(word: &str) -> Option<TlsMode> {
    Some(match word {
        "disable" => TlsMode::Disable,
        "prefer" => TlsMode::Prefer,
        "require" => TlsMode::Require,
        "verify-ca" => TlsMode::VerifyCa,
        "verify-full" => TlsMode::VerifyFull,
        _ => return None,
    })
}

/// A URL that may not be one, with whatever may be a password left out.
fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("//").unwrap_or(("", url));
    match rest.rsplit_once('@') {
        Some((login, rest)) => {
            let user = login.split_once(':').map_or(login, |(user, _)| user);
            format!("{scheme}//{user}@{rest}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Result<String, String> {
        Err("not to be asked".to_owned())
    }

    #[test]
    fn urls_of_the_three_databases() {
        let cases = [
            ("postgres://hive:pw@db/metastore", "postgres://hive@db:5432/metastore"),
            ("postgresql://h%40x@[::1]:5433/m?sslmode=require&schema=x", "postgres://h@x@[::1]:5433/m"),
            ("mysql://hive:a/b@c:d@db:3307/metastore", "mysql://hive@db:3307/metastore"),
            ("mariadb://hive@db/m", "mysql://hive@db:3306/m"),
            ("sqlite:///var/lib/replica.db", "sqlite:///var/lib/replica.db"),
            ("sqlite:replica.db", "sqlite://replica.db"),
        ];
        for (url, shown) in cases {
            assert!(SqlUrl::is_one(url));
            assert_eq!(SqlUrl::parse(url, &none).unwrap().to_string(), shown, "{url}");
        }
        assert!(!SqlUrl::is_one("thrift://h:9083"));
    }

    #[test]
    fn passwords_come_from_the_url_or_from_what_it_names() {
        let password = |url: &str| match SqlUrl::parse(url, &|named| Ok(format!("<{named}>"))).unwrap().0 {
            Where::Server(server) => server.password,
            Where::File(_) => None,
        };
        assert_eq!(password("mysql://u:a%2Fb@h/d").as_deref(), Some("a/b"));
        assert_eq!(password("mysql://u:env:PW@h/d").as_deref(), Some("<env:PW>"));
        assert_eq!(password("mysql://u:file:/run/pw@h/d").as_deref(), Some("<file:/run/pw>"));
        assert_eq!(password("mysql://u@h/d"), None);
        let mut url = SqlUrl::parse("mysql://u@h/d", &none).unwrap();
        assert!(url.lacks_password());
        url.set_password("p".to_owned());
        assert!(!url.lacks_password());
    }

    #[test]
    fn a_password_is_never_printed() {
        let url = SqlUrl::parse("mysql://u:s3cret@h/d", &none).unwrap();
        assert!(!format!("{url} {url:?}").contains("s3cret"));
        for wrong in ["mysql://u:s3cret@h", "mysql://u:s3cret@h:x/d", "mysql://u:s3cret@h/d?x=1", "x://u:s3cret@h/d"] {
            let error = SqlUrl::parse(wrong, &none).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        let why = |url: &str| SqlUrl::parse(url, &none).unwrap_err().to_string();
        assert!(why("mysql:u@h/d").contains("no //"));
        assert!(why("mysql://h/d").contains("no user"));
        assert!(why("mysql://u@h").contains("no database"));
        assert!(why("mysql://u@h/d?sslmode=maybe").contains("sslmode is one of"));
        assert!(why("sqlite://").contains("no path"));
        assert!(why("mysql://u:env:X@h/d").contains("not to be asked"));
    }
}
