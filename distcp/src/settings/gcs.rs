//! Where Google Cloud Storage answers and which login is used: the store's settings, the `GOOGLE_*` variables, gcloud's file.
//!
//! Reads the key files that these name, and nothing else. Credentials that are used together come from one source: a key of
//! the variables never joins a login of the configuration. Never shows a secret.

use std::collections::BTreeMap;
use std::path::Path;

use object_store::gcp::GoogleConfigKey;
use serde::Deserialize;

use super::aws::Options;
use super::explicit::Names;
use super::open::{OpenError, Opener, credentials, is_true, unusable};
use super::{Environment, Secret, read_small};
use crate::place::Place;
use crate::store::gcs::{base_url, is_option};
use crate::store::normal_service;

/// The options that such a store takes, by their short names, for hints. `google_` may stand before most.
pub(super) const OPTIONS: [&str; 23] = [
    "allow_http",
    "allow_invalid_certificates",
    "application_credentials",
    "base_url",
    "bearer_token",
    "connect_timeout",
    "disable_system_certificates",
    "http1_only",
    "http2_only",
    "kms_key_name",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "read_timeout",
    "service_account",
    "service_account_key",
    "service_account_path",
    "skip_signature",
    "storage_class",
    "timeout",
    "user_agent",
];
/// Options each of which is a login, by their one name, the one that wins first.
const LOGIN: [&str; 4] = ["bearer_token", "service_account_key", "service_account", "application_credentials"];
/// Where gcloud leaves a user's login, below the home folder.
const DEFAULT_CREDENTIALS: &str = ".config/gcloud/application_default_credentials.json";
/// The public service's host.
const PUBLIC: &str = "storage.googleapis.com";

/// What such a place is opened with.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) options: Options,
    /// The service in normal form; `None` for Google's own.
    pub(super) service: Option<String>,
    /// Where credentials were looked for in vain; empty when there are some.
    pub(super) looked_at: String,
}

/// What kind of login a file holds.
#[derive(Deserialize)]
struct Login {
    #[serde(default, rename = "type")]
    kind: String,
}

/// One name for all spellings of an option.
fn canonical(name: &str) -> String {
    let Ok(key) = name.parse::<GoogleConfigKey>() else { return name.to_owned() };
    let long: &str = key.as_ref();
    long.strip_prefix("google_").unwrap_or(long).to_owned()
}

/// Options from the variables: those that object_store reads.
fn variables(environment: &Environment) -> Options {
    let mut options = Options::new();
    if let Some(path) = environment.get("SERVICE_ACCOUNT") {
        options.insert("service_account".to_owned(), Secret::new(path));
    }
    for (name, value) in &environment.variables {
        let key = name.to_ascii_lowercase();
        if !value.is_empty() && name.starts_with("GOOGLE_") && is_option(&key) {
            options.insert(canonical(&key), Secret::new(value.as_str()));
        }
    }
    options
}

/// What its options are called.
const NAMES: Names = Names { options: &OPTIONS, is_option, login: &LOGIN, canonical, endpoint: "base_url" };

impl Opener {
    /// All options of a place: one-run options, then the store's, then the variables', then gcloud's default login.
    pub(super) fn resolve_gcs(
        &self,
        place: &Place,
        overrides: &BTreeMap<String, Secret>,
    ) -> Result<Resolved, OpenError> {
        let store = self.settings.store_of(place)?;
        let explicit = self.named(&NAMES, place, store, overrides)?;
        let mut options = variables(&self.environment);
        if LOGIN.iter().any(|name| explicit.contains_key(*name)) {
            options.retain(|name, _| !LOGIN.contains(&name.as_str()));
        }
        options.extend(explicit);
        let unsigned = options.get("skip_signature").is_some_and(is_true);
        let looked_at = if unsigned { String::new() } else { self.login(place, &mut options)? };
        let text = |name: &str| options.get(name).map(Secret::reveal);
        let url = base_url(text("base_url"), text("service_account_key")).map_err(|error| unusable(place, error.0))?;
        let uri: Option<http::Uri> = url.parse().ok();
        let public = uri.as_ref().and_then(|uri| uri.host()).is_some_and(|host| host.eq_ignore_ascii_case(PUBLIC));
        let service = if public { None } else { uri.as_ref().and_then(normal_service) };
        Ok(Resolved { options, service, looked_at })
    }

    /// Leaves the one login that is used among the options, key files read. Answers where one was looked for in vain; then
    /// the machine's metadata server is asked when the first request is sent.
    fn login(&self, place: &Place, options: &mut Options) -> Result<String, OpenError> {
        let Some(used) = LOGIN.into_iter().find(|name| options.contains_key(*name)) else {
            let file = self.environment.home.as_deref().map(|home| home.join(DEFAULT_CREDENTIALS));
            if let Some(file) = file.as_deref().filter(|file| file.exists()) {
                self.use_file(place, "gcloud's default credentials", file, options)?;
                return Ok(String::new());
            }
            let file = file.map_or_else(|| "no home folder".to_owned(), |file| format!("no {}", file.display()));
            return Ok(format!(
                "none of GOOGLE_APPLICATION_CREDENTIALS, GOOGLE_SERVICE_ACCOUNT, GOOGLE_SERVICE_ACCOUNT_KEY and \
                 GOOGLE_BEARER_TOKEN is set; there is {file}; no metadata server answers"
            ));
        };
        options.retain(|name, _| name == used || !LOGIN.contains(&name.as_str()));
        if matches!(used, "service_account" | "application_credentials")
            && let Some(path) = options.remove(used)
        {
            self.use_file(place, used, Path::new(path.reveal()), options)?;
        }
        Ok(String::new())
    }

    /// Takes the login of a file: a service account's key as text, a user's login by its path.
    fn use_file(&self, place: &Place, option: &str, path: &Path, options: &mut Options) -> Result<(), OpenError> {
        let shown = path.display();
        let bytes =
            read_small(path).map_err(|why| credentials(place, format!("{option} names the file {shown}: {why}")))?;
        // What a parser says may repeat what it read.
        let text = String::from_utf8(bytes).ok();
        let login = text.as_deref().and_then(|text| serde_json::from_str::<Login>(text).ok());
        let (Some(text), Some(login)) = (text, login) else {
            return Err(credentials(place, format!("{option} names the file {shown}, which is no JSON of a login")));
        };
        match login.kind.as_str() {
            "authorized_user" => {
                options.insert("application_credentials".to_owned(), Secret::new(shown.to_string()));
            }
            // The short form of a test's key has no type.
            "service_account" | "" => {
                options.insert("service_account_key".to_owned(), Secret::new(text));
            }
            other => {
                let other: String = other.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
                let reason = format!(
                    "{option} names the file {shown}, a login of the type {other:?}: only authorized_user and \
                     service_account can be used"
                );
                return Err(credentials(place, reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    const CONFIG: &str = r#"
[stores.lake]
url = "gs://lake/pre"
endpoint = "http://localhost:4443"
options = { bearer_token = "env:LAKE_TOKEN" }
"#;

    fn opener(variables: &[(&str, &str)], home: Option<&Path>) -> Opener {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let environment = Environment { variables, home: home.map(Path::to_owned) };
        Opener { settings: Settings::parse(CONFIG, "f").unwrap(), environment, ..Opener::default() }
    }

    fn resolve(opener: &Opener, text: &str, overrides: &[(&str, &str)]) -> Result<Resolved, OpenError> {
        let place = opener.settings.place(text.as_ref(), Path::new("/")).unwrap();
        let overrides = overrides.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
        opener.resolve_gcs(&place, &overrides)
    }

    #[test]
    fn every_name_of_the_hints_is_an_option() {
        for name in OPTIONS {
            assert!(is_option(name), "{name}");
            assert!(is_option(&canonical(name)), "{name}");
        }
        assert_eq!(canonical("google_service_account_path"), "service_account");
        assert!(!is_option("bucket") && !is_option("server_side_encryption"));
    }

    #[test]
    fn a_login_comes_from_one_source() {
        let variables = [("LAKE_TOKEN", "of-the-lake"), ("GOOGLE_BEARER_TOKEN", "hush"), ("GOOGLE_BUCKET", "no")];
        let opener = opener(&variables, None);
        let lake = resolve(&opener, "lake:x", &[]).unwrap();
        assert_eq!(lake.options["bearer_token"].reveal(), "of-the-lake");
        assert_eq!(lake.service.as_deref(), Some("http://127.0.0.1:4443"));
        let run = resolve(&opener, "lake:x", &[("service_account_key", "{}")]).unwrap();
        assert!(run.options.contains_key("service_account_key") && !run.options.contains_key("bearer_token"));
        let other = resolve(&opener, "gs://b", &[]).unwrap();
        assert_eq!((other.options["bearer_token"].reveal(), other.service), ("hush", None));
        assert!(!format!("{lake:?}{run:?}").contains("of-the-lake"));
        let public = resolve(&opener, "gs://b", &[("base_url", "https://storage.googleapis.com/")]).unwrap();
        assert_eq!(public.service, None, "the usual service by its name");
        let unsigned = resolve(&self::opener(&[], None), "gs://b", &[("skip_signature", "true")]).unwrap();
        assert_eq!(unsigned.looked_at, "");
    }

    #[test]
    fn files_of_logins_are_read_and_told_apart() {
        let home = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let key =
            file("key.json", r#"{"type": "service_account", "gcs_base_url": "http://h:1", "private_key": "hush"}"#);
        let found = resolve(&opener(&[("GOOGLE_SERVICE_ACCOUNT", &key)], None), "gs://b", &[]).unwrap();
        assert!(found.options["service_account_key"].reveal().contains("hush"));
        assert_eq!(found.service.as_deref(), Some("http://h:1"));
        let user = file("user.json", r#"{"type": "authorized_user", "refresh_token": "hush"}"#);
        let found = resolve(&opener(&[("GOOGLE_APPLICATION_CREDENTIALS", &user)], None), "gs://b", &[]).unwrap();
        assert_eq!(found.options["application_credentials"].reveal(), user);

        let nothing = resolve(&opener(&[], Some(home.path())), "gs://b", &[]).unwrap();
        assert!(nothing.looked_at.contains("GOOGLE_APPLICATION_CREDENTIALS"), "{}", nothing.looked_at);
        let default = file(DEFAULT_CREDENTIALS, r#"{"type": "authorized_user"}"#);
        let found = resolve(&opener(&[], Some(home.path())), "gs://b", &[]).unwrap();
        assert_eq!((found.options["application_credentials"].reveal(), &*found.looked_at), (&*default, ""));

        let federated = file("federated.json", r#"{"type": "external_account", "x": "hush"}"#);
        let broken = file("broken.json", "hush");
        for (path, words) in
            [(federated, "\"external_account\""), (broken, "no JSON of a login"), ("/no/such".into(), "/no/such")]
        {
            let error = resolve(&opener(&[("GOOGLE_SERVICE_ACCOUNT", &path)], None), "gs://b", &[]).unwrap_err();
            assert!(error.to_string().contains(words) && !error.to_string().contains("hush"), "{error}");
            assert!(error.is_permission());
        }
    }

    #[test]
    fn what_a_place_has_too_much_is_named() {
        let error = resolve(&opener(&[], None), "gs://b", &[("bearer_tokn", "hush")]).unwrap_err().to_string();
        assert!(error.contains("did you mean \"bearer_token\"") && !error.contains("hush"), "{error}");
        let error = resolve(&opener(&[], None), "lake:x", &[]).unwrap_err();
        assert!(error.is_permission() && error.to_string().contains("LAKE_TOKEN, which is not set"), "{error}");
        for (text, words) in [
            ("[stores.a]\nurl = \"gs://b\"\naccess_key_id = \"x\"", "is for S3"),
            ("[stores.a]\nurl = \"gs://b\"\noptions = { service_acount = \"x\" }", "did you mean \"service_account\"?"),
        ] {
            let error = Settings::parse(text, "config.toml").unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
