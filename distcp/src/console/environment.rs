//! The one place that reads the process environment, into a plain value that is handed on.
//!
//! What the values mean is decided by a pure function; the library below never looks for itself. Writes nothing.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Failure;
use crate::exit::ExitCode;
use crate::settings::{Environment, Settings};
use crate::store::pace::TimeOfDay;

/// Our folder below the XDG folders.
const FOLDER: &str = "understudy";
/// The largest configuration that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// What is known of the process that the binary runs as.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Variables and home folder, for the library.
    pub environment: Environment,
    /// The working folder, absolute.
    pub cwd: PathBuf,
    /// Where temporary files go.
    pub temporary: PathBuf,
    /// `$UNDERSTUDY_CONFIG`, when it is set.
    pub config: Option<PathBuf>,
    /// `understudy/config.toml` in the XDG config folder; `None` without a home.
    pub default_config: Option<PathBuf>,
    /// `understudy` in the XDG state folder; `None` without a home.
    pub default_state: Option<PathBuf>,
    /// Who runs it, for people.
    pub user: String,
    /// The terminal cannot redraw lines (`TERM=dumb`).
    pub dumb_terminal: bool,
}

impl Process {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// When the working folder is gone.
    pub fn read() -> io::Result<Self> {
        let uid = rustix::process::getuid().as_raw();
        Ok(Self::from(&std::env::vars_os().collect(), std::env::current_dir()?, uid))
    }

    /// What a process with these variables, working folder and user id is.
    fn from(variables: &BTreeMap<OsString, OsString>, cwd: PathBuf, uid: u32) -> Self {
        let get = |name: &str| variables.get(OsStr::new(name)).filter(|value| !value.is_empty());
        // The XDG Base Directory Specification: a path that is not absolute is invalid and ignored.
        let path = |name: &str| get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = path("HOME");
        let below = |name: &str, otherwise: &str| {
            path(name).or_else(|| home.as_ref().map(|home| home.join(otherwise))).map(|folder| folder.join(FOLDER))
        };
        let text = |name: &str| get(name).and_then(|value| value.to_str()).map(str::to_owned);
        let words =
            variables.iter().filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_str()?.to_owned())));
        Self {
            environment: Environment { variables: words.collect(), home: home.clone() },
            temporary: path("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp")),
            config: get("UNDERSTUDY_CONFIG").map(|value| cwd.join(value)),
            default_config: below("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("config.toml")),
            default_state: below("XDG_STATE_HOME", ".local/state"),
            user: text("USER").or_else(|| text("LOGNAME")).unwrap_or_else(|| format!("uid {uid}")),
            dumb_terminal: text("TERM").is_some_and(|term| term == "dumb"),
            cwd,
        }
    }

    /// The configuration: `--config`, else `$UNDERSTUDY_CONFIG`, else the default file. One that was named must exist; no
    /// default file is fine.
    ///
    /// # Errors
    /// Exit code 2: the file cannot be read, or says what nothing understands.
    pub fn settings(&self, named: Option<&Path>) -> Result<Settings, Failure> {
        let wanted = named.map(|path| self.cwd.join(path)).or_else(|| self.config.clone());
        let must_exist = wanted.is_some();
        let Some(path) = wanted.or_else(|| self.default_config.clone()) else { return Ok(Settings::default()) };
        let name = path.display().to_string();
        let text = match read_text(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => return Ok(Settings::default()),
            Err(error) => {
                return Err(Failure::new(ExitCode::Usage, format!("cannot read the configuration {name}: {error}")));
            }
        };
        Ok(Settings::parse(&text, &name)?)
    }
}

/// Seconds since midnight, local time: what a timetable of `--bwlimit` is read by.
pub fn time_of_day() -> TimeOfDay {
    Arc::new(|| {
        let time = jiff::Zoned::now().time();
        let [hour, minute, second] =
            [time.hour(), time.minute(), time.second()].map(|part| u32::try_from(part).unwrap_or(0));
        hour * 3600 + minute * 60 + second
    })
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {} MiB", MAX_CONFIG_BYTES >> 20),
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(variables: &[(&str, &str)]) -> Process {
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        Process::from(&variables, PathBuf::from("/here"), 1000)
    }

    #[test]
    fn folders_follow_the_xdg_specification() {
        type Case = (&'static [(&'static str, &'static str)], Option<&'static str>, Option<&'static str>);
        let table: [Case; 5] = [
            (&[], None, None),
            (
                &[("HOME", "/users/a")],
                Some("/users/a/.config/understudy/config.toml"),
                Some("/users/a/.local/state/understudy"),
            ),
            (
                &[("HOME", "/users/a"), ("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "/s")],
                Some("/c/understudy/config.toml"),
                Some("/s/understudy"),
            ),
            (&[("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "relative")], Some("/c/understudy/config.toml"), None),
            (
                &[("HOME", "/users/a"), ("XDG_CONFIG_HOME", ""), ("XDG_STATE_HOME", "relative")],
                Some("/users/a/.config/understudy/config.toml"),
                Some("/users/a/.local/state/understudy"),
            ),
        ];
        for (variables, config, state) in table {
            let process = process(variables);
            assert_eq!(process.default_config.as_deref(), config.map(Path::new), "{variables:?}");
            assert_eq!(process.default_state.as_deref(), state.map(Path::new), "{variables:?}");
        }
    }

    #[test]
    fn user_terminal_and_temporary_folder_have_fallbacks() {
        let nothing = process(&[]);
        assert_eq!((nothing.user.as_str(), nothing.temporary.as_path()), ("uid 1000", Path::new("/tmp")));
        assert!(!nothing.dumb_terminal);
        let set = process(&[("USER", ""), ("LOGNAME", "ann"), ("TMPDIR", "/var/tmp"), ("TERM", "dumb")]);
        assert_eq!(
            (set.user.as_str(), set.temporary.as_path(), set.dumb_terminal),
            ("ann", Path::new("/var/tmp"), true)
        );
    }

    #[test]
    fn variables_are_handed_on_and_never_shown() {
        let process = process(&[("AWS_SECRET_ACCESS_KEY", "hidden"), ("UNDERSTUDY_CONFIG", "u.toml")]);
        assert_eq!(process.environment.get("AWS_SECRET_ACCESS_KEY"), Some("hidden"));
        assert!(!format!("{process:?}").contains("hidden"));
        assert_eq!(process.config.as_deref(), Some(Path::new("/here/u.toml")));
    }

    #[test]
    fn a_configuration_that_was_named_must_exist() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let missing = folder.path().join("missing.toml");
        let with = |config: Option<&Path>, default: &Path| Process {
            config: config.map(Path::to_owned),
            default_config: Some(default.to_owned()),
            ..process(&[])
        };
        assert_eq!(with(None, &missing).settings(None).unwrap(), Settings::default());
        assert_eq!(with(None, &missing).settings(Some(&missing)).unwrap_err().code, ExitCode::Usage);
        assert_eq!(with(Some(&missing), &file).settings(None).unwrap_err().code, ExitCode::Usage);
        std::fs::write(&file, "[stores.eu]\nurl = \"s3://lake-eu\"\n").unwrap();
        assert!(with(None, &file).settings(None).unwrap().stores.contains_key("eu"));
        std::fs::write(&missing, "stroes = 1").unwrap();
        let error = with(None, &file).settings(Some(&missing)).unwrap_err();
        assert!(error.message.contains("stroes"), "{error}");
    }
}
