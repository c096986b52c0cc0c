//! URLs by which the service reads one blob for a copy: a shared access signature of the account's key.
//!
//! Allows reading, of one blob, for an hour; never shows the key. Pure; a crash leaves nothing.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::{SignedDuration, Timestamp};

/// How long a signature lets the service read: a copy that takes longer is one of parts, each with its own.
const LIFETIME: SignedDuration = SignedDuration::from_hours(1);
/// The version by whose rules it is signed.
const VERSION: &str = "2023-11-03";

/// An account's key.
#[derive(Clone)]
pub(super) struct AccessKey(hmac::Key);

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessKey")
    }
}

impl AccessKey {
    /// From base64; `None` for anything else.
    pub fn new(text: &str) -> Option<Self> {
        Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &BASE64.decode(text).ok()?)))
    }

    /// The query that lets its holder read one blob, unencoded.
    /// <https://learn.microsoft.com/en-us/rest/api/storageservices/create-service-sas#version-2020-12-06-and-later>
    pub fn read_one(&self, account: &str, container: &str, full_key: &str, now: Timestamp) -> Vec<(String, String)> {
        let end = now.saturating_add(LIFETIME).map_or(now, |end| end);
        let expiry = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let text = text_to_sign(account, container, full_key, &expiry);
        let signature = BASE64.encode(hmac::sign(&self.0, text.as_bytes()));
        let pairs = [("sv", VERSION), ("sr", "b"), ("sp", "r"), ("se", &expiry), ("sig", &signature)];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }
}

/// The sixteen fields in their order; most are not used. No start is given: clocks differ.
fn text_to_sign(account: &str, container: &str, full_key: &str, expiry: &str) -> String {
    let resource = format!("/blob/{account}/{container}/{full_key}");
    let mut fields = [""; 16];
    (fields[0], fields[2], fields[3], fields[7], fields[8]) = ("r", expiry, &resource, VERSION, "b");
    fields.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_names_the_blob_as_it_is_and_ends() {
        let text = text_to_sign("acc", "box", "a b/%41\u{fc}", "2026-01-01T01:00:00Z");
        assert_eq!(text, "r\n\n2026-01-01T01:00:00Z\n/blob/acc/box/a b/%41\u{fc}\n\n\n\n2023-11-03\nb\n\n\n\n\n\n\n");
        assert!(AccessKey::new("not*base64").is_none());
        let key = AccessKey::new("aHVzaA==").unwrap();
        let pairs = key.read_one("acc", "box", "k", "2026-01-01T00:00:00Z".parse().unwrap());
        assert!(pairs.contains(&("se".into(), "2026-01-01T01:00:00Z".into())), "{pairs:?}");
        assert_eq!(format!("{key:?}"), "AccessKey");
    }
}
