//! Where S3 credentials, region and endpoint come from: the store's settings, the AWS variables, the shared AWS files.
//!
//! Reads the shared files and nothing else; what it finds together came from one source, never a key from one and its token
//! from another. Never shows a secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Environment, Secret, read_small};

/// Options by object_store's names.
pub(super) type Options = BTreeMap<String, Secret>;

/// Why the shared files cannot be used. Says what to do instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadProfile(pub String);

/// What one profile of the shared files says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    /// Keys, token, region, endpoint, web identity: options by name.
    pub options: Options,
    /// It exists in one of the files.
    pub found: bool,
}

/// The files that are looked at: credentials first, configuration second.
pub(super) fn shared_files(environment: &Environment) -> [Option<PathBuf>; 2] {
    let file = |variable: &str, name: &str| match environment.get(variable) {
        Some(path) => Some(match (path.strip_prefix("~/"), &environment.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(path),
        }),
        None => environment.home.as_ref().map(|home| home.join(".aws").join(name)),
    };
    [file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config")]
}

/// Reads one profile from both files; what stands in the credentials file wins. Keys of ways to log in that are not
/// supported are an error only if the profile has no keys of its own.
pub(super) fn read_profile(name: &str, environment: &Environment) -> Result<Profile, BadProfile> {
    let [credentials, config] = shared_files(environment);
    let mut merged: BTreeMap<String, String> = BTreeMap::new();
    let mut profile = Profile::default();
    for (file, is_config) in [(config, true), (credentials, false)] {
        let Some(file) = file.filter(|file| file.is_file()) else { continue };
        let section = match (is_config, name) {
            (false, name) => name.to_owned(),
            (true, "default") => "default".to_owned(),
            (true, name) => format!("profile {name}"),
        };
        let mut found = read_section(&file, &section)?;
        if found.is_none() && is_config && name == "default" {
            found = read_section(&file, "profile default")?;
        }
        if let Some(found) = found {
            profile.found = true;
            // A key pair comes from one file whole, with its token or without.
            if found.contains_key("aws_access_key_id") {
                for key in ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"] {
                    merged.remove(key);
                }
            }
            merged.extend(found);
        }
    }
    for (key, option) in [
        ("aws_access_key_id", "access_key_id"),
        ("aws_secret_access_key", "secret_access_key"),
        ("aws_session_token", "session_token"),
        ("region", "region"),
        ("endpoint_url", "endpoint"),
        ("web_identity_token_file", "web_identity_token_file"),
        ("role_arn", "role_arn"),
        ("role_session_name", "role_session_name"),
    ] {
        if let Some(value) = merged.get(key).filter(|value| !value.is_empty()) {
            profile.options.insert(option.to_owned(), Secret::new(value.as_str()));
        }
    }
    let has = |option: &str| profile.options.contains_key(option);
    if !has("access_key_id") && !has("web_identity_token_file") {
        for (key, value) in &merged {
            let what = match key.as_str() {
                "credential_process" => "gets its keys from a program (credential_process)",
                key if key.starts_with("sso_") => "logs in through a browser (sso)",
                "login_session" => "logs in through a browser (login_session)",
                "source_profile" | "credential_source" => "assumes a role from another source (role_arn)",
                _ => continue,
            };
            if !value.is_empty() {
                return Err(BadProfile(format!(
                    "the AWS profile {name:?} {what}, which is not supported: export its keys into variables, for example \
                     with `aws configure export-credentials --profile {name} --format env`"
                )));
            }
        }
    }
    Ok(profile)
}

/// One section of an INI file as the AWS tools write it.
fn read_section(file: &Path, section: &str) -> Result<Option<BTreeMap<String, String>>, BadProfile> {
    let bytes = read_small(file).map_err(|why| BadProfile(format!("the AWS file {}: {why}", file.display())))?;
    let text =
        String::from_utf8(bytes).map_err(|_| BadProfile(format!("the AWS file {} is not text", file.display())))?;
    Ok(section_of(&text, section))
}

/// Comments start a line or follow a blank; indented lines belong to a nested value and are none of ours.
fn section_of(text: &str, section: &str) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut inside = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') || trimmed.starts_with(';') {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            inside = name.split_whitespace().eq(section.split_whitespace());
            if inside {
                found.get_or_insert_default();
            }
            continue;
        }
        if !inside || line.starts_with([' ', '\t']) {
            continue;
        }
        if let (Some((key, value)), Some(found)) = (trimmed.split_once('='), &mut found) {
            let value = value.split(" #").next().unwrap_or_default();
            let value = value.split(" ;").next().unwrap_or_default();
            found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

/// Options from the AWS variables other than keys, profile and files: what object_store reads from them, too.
pub(super) fn variables(environment: &Environment) -> Options {
    let mut options = Options::new();
    for (name, value) in &environment.variables {
        if value.is_empty() || !name.starts_with("AWS_") {
            continue;
        }
        let key = name.to_ascii_lowercase();
        let apart = [
            "aws_access_key_id",
            "aws_secret_access_key",
            "aws_session_token",
            "aws_token",
            "aws_bucket",
            "aws_bucket_name",
            "aws_default_region",
        ];
        if !apart.contains(&key.as_str()) && super::open::is_s3_option(&key) {
            options.insert(super::open::canonical(&key), Secret::new(value.as_str()));
        }
    }
    if let Some(region) = environment.get("AWS_REGION").or(environment.get("AWS_DEFAULT_REGION")) {
        options.insert("region".into(), Secret::new(region));
    }
    // The one for S3 alone wins.
    if let Some(endpoint) = environment.get("AWS_ENDPOINT_URL_S3").or(environment.get("AWS_ENDPOINT_URL")) {
        options.insert("endpoint".into(), Secret::new(endpoint));
    }
    options.remove("aws_endpoint_url_s3");
    options
}

/// The key pair of the AWS variables, with its token.
pub(super) fn variable_keys(environment: &Environment) -> Option<Options> {
    let id = environment.get("AWS_ACCESS_KEY_ID")?;
    let secret = environment.get("AWS_SECRET_ACCESS_KEY")?;
    let mut options = Options::from([
        ("access_key_id".to_owned(), Secret::new(id)),
        ("secret_access_key".to_owned(), Secret::new(secret)),
    ]);
    if let Some(token) = environment.get("AWS_SESSION_TOKEN").or(environment.get("AWS_SECURITY_TOKEN")) {
        options.insert("session_token".into(), Secret::new(token));
    }
    Some(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_read_as_the_aws_tools_write_them() {
        let text = "# c\n[default]\naws_access_key_id = A # note\nAWS_SECRET_ACCESS_KEY=s=e/c+r#t\n\
                    s3 =\n  endpoint_url = nested\n; c\n[ profile  eu ]\nregion=eu-west-1\n";
        let default = section_of(text, "default").unwrap();
        assert_eq!(default["aws_access_key_id"], "A");
        assert_eq!(default["aws_secret_access_key"], "s=e/c+r#t");
        assert!(!default.contains_key("endpoint_url"));
        assert_eq!(section_of(text, "profile eu").unwrap()["region"], "eu-west-1");
        assert_eq!(section_of(text, "us"), None);
    }
}
