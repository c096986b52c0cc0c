//! The configuration file: which store serves which URLs, with which endpoint, credentials and options.
//!
//! Pure but for reading secrets from the files that it names. Never reads the process environment (what is needed of it is
//! passed in) and never shows a secret. Writes nothing; a crash leaves nothing.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::place::{BadPlace, Location, Place, nearest};
use crate::store::hdfs;

mod aws;
mod azure;
mod explicit;
mod gcs;
pub mod open;
#[cfg(test)]
mod tests;

pub use open::{OpenError, OpenOptions, Opened, Opener};

/// Keys of a store in the configuration.
const STORE_KEYS: [&str; 8] =
    ["access_key_id", "endpoint", "options", "profile", "region", "secret_access_key", "session_token", "url"];
/// Secrets, tokens and certificates in files are no larger than this.
const MAX_SECRET_BYTES: u64 = 1 << 20;

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for whoever sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What the library may know of the process: the binary fills it.
#[derive(Clone, Default)]
pub struct Environment {
    /// Environment variables that are text.
    pub variables: BTreeMap<String, String>,
    /// The user's home folder.
    pub home: Option<PathBuf>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Variables hold secrets: names only.
        let names: Vec<&String> = self.variables.keys().collect();
        f.debug_struct("Environment").field("variables", &names).field("home", &self.home).finish()
    }
}

impl Environment {
    /// A variable that is set to something.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// One store of the configuration. Values may be `env:NAME`, `file:PATH` or the literal value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreSettings {
    /// It serves every URL under this one.
    pub url: String,
    /// Where the service answers: an S3 service, an account of Azure's, or Google Cloud Storage.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// The access key.
    pub access_key_id: Option<Secret>,
    /// The secret that belongs to it.
    pub secret_access_key: Option<Secret>,
    /// The token of temporary credentials.
    pub session_token: Option<Secret>,
    /// The profile of the shared AWS files to use.
    pub profile: Option<String>,
    /// Any option of object_store's, or key of Hadoop's configuration, by its name there.
    pub options: BTreeMap<String, Secret>,
}

/// The configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The stores by name.
    pub stores: BTreeMap<String, StoreSettings>,
}

/// A configuration that cannot be used (exit code 2). Names the key, never a secret's value.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is no TOML.
    #[error("{file} is no valid TOML: {reason}")]
    Syntax {
        /// Which file.
        file: String,
        /// Why not, and where.
        reason: String,
    },
    /// A key that nothing reads.
    #[error("{file} has the unknown key {key}{hint}")]
    UnknownKey {
        /// Which file.
        file: String,
        /// The key with its table.
        key: String,
        /// `, did you mean ...`, or nothing.
        hint: String,
    },
    /// A value of the wrong form.
    #[error("{file} has {key}, which {reason}")]
    BadValue {
        /// Which file.
        file: String,
        /// The key with its table.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// Two stores serve the place equally well.
    #[error("{place} is served by the stores {first} and {second} alike: name one, as in {first}:path")]
    Ambiguous {
        /// The place.
        place: String,
        /// One store.
        first: String,
        /// The other.
        second: String,
    },
    /// The place cannot be read.
    #[error(transparent)]
    Place(#[from] BadPlace),
}

impl Settings {
    /// Reads the text of a configuration file; `file` names it in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, SettingsError> {
        let root: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            // The message alone: the rendered form shows the line, which may hold a secret.
            let line = error.span().map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
            let reason = match line {
                Some(line) => format!("{} in line {line}", error.message()),
                None => error.message().to_owned(),
            };
            SettingsError::Syntax { file: file.to_owned(), reason }
        })?;
        let mut settings = Settings::default();
        for (key, value) in root {
            if key != "stores" {
                return Err(unknown(file, &key, &key, ["stores"]));
            }
            for (name, value) in table(file, "stores", value)? {
                let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
                    && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
                if !fits {
                    return Err(bad(file, &format!("stores.{name}"), "is no name: letters, digits, -, _ and . only"));
                }
                let store = read_store(file, &name, table(file, &format!("stores.{name}"), value)?)?;
                settings.stores.insert(name, store);
            }
        }
        Ok(settings)
    }

    /// Reads a place as users write it, `name:path` included. `cwd` is the absolute folder that relative paths start from.
    pub fn place(&self, text: &OsStr, cwd: &Path) -> Result<Place, SettingsError> {
        let urls = self.stores.iter().map(|(name, store)| (name.clone(), store.url.clone())).collect();
        Ok(Place::parse(text, cwd, &urls)?)
    }

    /// The store that serves a place: the named one, else the one with the longest URL that holds it (rule 4).
    pub fn store_of(&self, place: &Place) -> Result<Option<(&str, &StoreSettings)>, SettingsError> {
        if let Some(name) = &place.store {
            return Ok(self.stores.get_key_value(name).map(|(name, store)| (name.as_str(), store)));
        }
        let mut best: Option<(usize, &String, &StoreSettings)> = None;
        let mut rival = None;
        // Compared without the service: the configuration is what tells it.
        let bare = Place { service: None, ..place.clone() };
        for (name, store) in &self.stores {
            let root = self.place(OsStr::new(&store.url), Path::new("/"))?;
            if !root.contains(&bare) {
                continue;
            }
            let length = root.identity().len();
            match best {
                Some((longest, ..)) if length < longest => {}
                Some((longest, ..)) if length == longest => rival = Some(name),
                _ => (best, rival) = (Some((length, name, store)), None),
            }
        }
        match (best, rival) {
            (Some((_, first, _)), Some(second)) => {
                Err(SettingsError::Ambiguous { place: place.to_string(), first: first.clone(), second: second.clone() })
            }
            (Some((_, name, store)), None) => Ok(Some((name.as_str(), store))),
            (None, _) => Ok(None),
        }
    }
}

fn unknown<'a>(file: &str, path: &str, key: &str, known: impl IntoIterator<Item = &'a str>) -> SettingsError {
    SettingsError::UnknownKey { file: file.to_owned(), key: path.to_owned(), hint: nearest(key, known) }
}

fn bad(file: &str, key: &str, reason: &str) -> SettingsError {
    SettingsError::BadValue { file: file.to_owned(), key: key.to_owned(), reason: reason.to_owned() }
}

fn table(file: &str, key: &str, value: toml::Value) -> Result<toml::Table, SettingsError> {
    match value {
        toml::Value::Table(table) => Ok(table),
        _ => Err(bad(file, key, "is no table")),
    }
}

fn read_store(file: &str, name: &str, table: toml::Table) -> Result<StoreSettings, SettingsError> {
    let mut store = StoreSettings::default();
    let url = table.get("url").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    let location = Place::parse(OsStr::new(&url), Path::new("/"), &BTreeMap::new()).ok().map(|place| place.location);
    // What options there are, and where a login goes that has keys of its own on S3.
    let (is_option, options, login): (fn(&str) -> bool, &[&'static str], _) = match location {
        Some(Location::Azure { .. }) => {
            let login = "is for S3: a store on Azure has it in its options, as account_key or sas_token";
            (crate::store::azure::is_option, &azure::OPTIONS, Some(login))
        }
        Some(Location::Gcs { .. }) => {
            let login = "is for S3: a store on Google Cloud Storage has it in its options, as service_account";
            (crate::store::gcs::is_option, &gcs::OPTIONS, Some(login))
        }
        Some(Location::Hdfs { .. }) => {
            (hdfs::is_option, &hdfs::OWN_OPTIONS, Some("means nothing to HDFS: its settings are options"))
        }
        _ => (open::is_s3_option, &open::S3_OPTIONS, None),
    };
    for (key, value) in table {
        let path = format!("stores.{name}.{key}");
        if key == "options" {
            let toml::Value::Table(given) = value else { return Err(bad(file, &path, "is no table")) };
            for (option, value) in given {
                let path = format!("{path}.{option}");
                if !is_option(&option) {
                    return Err(unknown(file, &path, &option, options.iter().copied()));
                }
                let value = match value {
                    toml::Value::String(text) => text,
                    toml::Value::Boolean(flag) => flag.to_string(),
                    toml::Value::Integer(number) => number.to_string(),
                    _ => return Err(bad(file, &path, "is no text, number, true or false")),
                };
                store.options.insert(option, Secret::new(value));
            }
            continue;
        }
        if !STORE_KEYS.contains(&key.as_str()) {
            return Err(unknown(file, &path, &key, STORE_KEYS));
        }
        let everywhere = match location {
            Some(Location::Hdfs { .. }) => key == "url",
            _ => matches!(key.as_str(), "endpoint" | "url"),
        };
        if let Some(login) = login
            && !everywhere
        {
            return Err(bad(file, &path, login));
        }
        let toml::Value::String(text) = value else { return Err(bad(file, &path, "is no text")) };
        match key.as_str() {
            "url" => store.url = text,
            "endpoint" => store.endpoint = Some(text),
            "region" => store.region = Some(text),
            "access_key_id" => store.access_key_id = Some(Secret::new(text)),
            "secret_access_key" => store.secret_access_key = Some(Secret::new(text)),
            "session_token" => store.session_token = Some(Secret::new(text)),
            _ => store.profile = Some(text),
        }
    }
    let key = format!("stores.{name}.url");
    if store.url.is_empty() {
        return Err(bad(file, &key, "is missing"));
    }
    match Place::parse(OsStr::new(&store.url), Path::new("/"), &BTreeMap::new()) {
        Ok(Place { location: Location::Local { .. }, .. }) if !store.url.starts_with("file:") => {
            Err(bad(file, &key, "is no URL like s3://bucket"))
        }
        Ok(_) => Ok(store),
        Err(error) => Err(bad(file, &key, &format!("cannot be used: {error}"))),
    }
}

/// A value of the configuration: `env:NAME`, `file:PATH` (its text without the last line end) or itself. The error says
/// what is missing, not what is there.
pub fn resolve(value: &Secret, environment: &Environment) -> Result<Secret, String> {
    let text = value.reveal();
    if let Some(name) = text.strip_prefix("env:") {
        return match environment.get(name) {
            Some(value) => Ok(Secret::new(value)),
            None => Err(format!("names the variable {name}, which is not set")),
        };
    }
    if let Some(path) = text.strip_prefix("file:") {
        let bytes = read_small(Path::new(path)).map_err(|why| format!("names the file {path}: {why}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("names the file {path}, which is not text"))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        return Ok(Secret::new(line.strip_suffix('\r').unwrap_or(line)));
    }
    Ok(value.clone())
}

/// A file that is no larger than a secret can be.
fn read_small(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| format!("it cannot be read ({error})"))?;
    let mut bytes = Vec::new();
    file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes).map_err(|error| format!("it cannot be read ({error})"))?;
    if bytes.len() as u64 > MAX_SECRET_BYTES { Err("it is larger than 1 MiB".into()) } else { Ok(bytes) }
}
