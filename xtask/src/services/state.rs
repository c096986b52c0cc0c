//! The state file of a running service, and the file of variables that tells others about all of them.

use crate::folders::{Folders, write_whole};
use crate::process::Identity;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A service that was started, as recorded in `run/<name>/state.json`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The process, recognisable after its pid was given to another.
    pub identity: Identity,
    /// Its loopback port.
    pub port: u16,
}

impl Running {
    /// What is recorded of a service; `None` if nothing is.
    pub fn read(folders: &Folders, name: &str) -> Result<Option<Self>> {
        let path = folders.run(name).join("state.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).with_context(|| format!("read {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Records it.
    pub fn write(&self, folders: &Folders, name: &str) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("state")?;
        write_whole(&folders.run(name).join("state.json"), &text)
    }
}

/// Writes the shell-style file of variables; with none, removes it.
pub fn write_env(folders: &Folders, variables: &BTreeMap<String, String>) -> Result<()> {
    let text: String = variables.iter().map(|(name, value)| format!("{name}={}\n", quote(value))).collect();
    write_whole(&folders.env_file(), &text)
}

/// A value as a POSIX shell reads it back.
fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:-".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for value in ["http://127.0.0.1:1", "", "a b", "it's", "$HOME `x`"] {
            let script = format!("v={}; printf %s \"$v\"", quote(value));
            let out = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap(), value);
        }
    }
}
