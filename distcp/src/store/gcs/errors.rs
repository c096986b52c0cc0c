//! What an answer of Google Cloud Storage means: status and reason to a [`StoreErrorKind`], decided in one table.
//!
//! The JSON API answers `{"error": {"message", "errors": [{"reason"}]}}`, the XML API `<Error><Code>`
//! (<https://cloud.google.com/storage/docs/json_api/v1/status-codes>, <https://cloud.google.com/storage/docs/xml-api/reference-status>).
//! Never puts a token into an error. Pure; a crash leaves nothing.

use http::StatusCode;
use serde::Deserialize;

use crate::store::wire::cut;
use crate::store::{StoreErrorKind, xml};

/// What a failed answer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The first `reason`, or `<Code>`; empty when neither is there.
    pub code: String,
    /// The message.
    pub message: String,
    /// The body is an HTML page.
    pub html: bool,
}

#[derive(Deserialize)]
struct Answer {
    error: Failure,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    reason: String,
}

/// Reads the body of a failed answer as far as it can be read.
pub(super) fn said(body: &[u8]) -> Said {
    let mut said = Said { html: xml::is_html(body), ..Said::default() };
    if let Ok(Answer { error }) = serde_json::from_slice(body) {
        said.code = error.errors.into_iter().next().map(|first| first.reason).unwrap_or_default();
        said.message = error.message;
    } else if let Ok(root) = xml::parse(body)
        && root.name == "Error"
    {
        said.code = root.text_of("Code").unwrap_or_default().trim().to_owned();
        said.message = root.text_of("Message").unwrap_or_default().trim().to_owned();
    }
    said
}

/// The kind of a failed answer. `missing` is what a 404 means that does not say it.
pub(super) fn kind(status: StatusCode, said: &Said, missing: StoreErrorKind) -> StoreErrorKind {
    use StoreErrorKind as Kind;
    let status = status.as_u16();
    let says = |words: &str| said.message.to_ascii_lowercase().contains(words);
    match said.code.as_str() {
        "NoSuchBucket" => return Kind::NoBucket,
        "notFound" if says("bucket does not exist") => return Kind::NoBucket,
        "NoSuchKey" | "NoSuchUpload" | "NoSuchVersion" => return Kind::NotFound,
        "conditionNotMet" | "PreconditionFailed" | "requestedRangeNotSatisfiable" | "InvalidRange" => {
            return Kind::Precondition;
        }
        "authError"
        | "AuthenticationRequired"
        | "MissingSecurityHeader"
        | "InvalidSecurity"
        | "InvalidToken"
        | "ExpiredToken"
        | "TokenRefreshRequired"
        | "AccessTokenScopeInsufficient" => return Kind::Credentials,
        "required" if status == 401 => return Kind::Credentials,
        "forbidden"
        | "insufficientPermissions"
        | "AccessDenied"
        | "retentionPolicyNotMet"
        | "objectUnderActiveHold"
        | "ObjectUnderActiveHold" => return Kind::Permission,
        "rateLimitExceeded" | "userRateLimitExceeded" | "SlowDown" | "TooManyRequests" => return Kind::Throttled,
        "RequestTimeout" => return Kind::Timeout,
        "BadDigest" => return Kind::Corrupt,
        "invalid" if says("doesn't match calculated") => return Kind::Corrupt,
        "backendError" | "internalError" | "InternalError" | "ServiceUnavailable" | "ServerTimeout" => {
            return Kind::Server;
        }
        "KeyTooLongError" | "InvalidObjectName" | "InvalidURI" => return Kind::InvalidKey,
        "invalid" if says("object name") => return Kind::InvalidKey,
        "NotImplemented" | "notImplemented" | "MethodNotAllowed" => return Kind::Unsupported,
        _ => {}
    }
    match status {
        412 | 304 | 416 => Kind::Precondition,
        404 if said.html => Kind::Protocol,
        404 => missing,
        401 => Kind::Credentials,
        403 => Kind::Permission,
        408 => Kind::Timeout,
        // The token of a copy in steps expired: a new one begins anew.
        410 => Kind::Server,
        429 => Kind::Throttled,
        501 | 405 => Kind::Unsupported,
        507 => Kind::NoSpace,
        500..=599 => Kind::Server,
        200..=399 => Kind::Protocol,
        _ if said.html => Kind::Protocol,
        _ => Kind::Other,
    }
}

/// The words of an error: status, reason, message and a hint where one helps. Cut, on one line.
pub(super) fn detail(status: StatusCode, said: &Said) -> String {
    let mut text = format!("{}", status.as_u16());
    if !said.code.is_empty() {
        text.push(' ');
        text.push_str(&said.code);
    }
    if !said.message.is_empty() {
        text.push_str(": ");
        text.push_str(&said.message);
    }
    if said.html {
        text.push_str(": an HTML page came instead of an answer, a proxy may stand between");
    }
    let mut text = cut(&text);
    text.push_str(match (said.code.as_str(), status.as_u16()) {
        ("forbidden" | "insufficientPermissions" | "AccessDenied", 403) => {
            "; a role like Storage Object User is needed, and a scope that allows writing"
        }
        ("authError" | "required" | "AuthenticationRequired" | "InvalidToken" | "ExpiredToken", 401) => {
            "; renew the login: gcloud auth application-default login"
        }
        ("retentionPolicyNotMet" | "objectUnderActiveHold" | "ObjectUnderActiveHold", _) => {
            "; the bucket's retention policy or a hold keeps the object"
        }
        _ => "",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use StoreErrorKind as Kind;

    #[test]
    fn both_forms_of_failure_are_read() {
        let json = br#"{"error":{"errors":[{"domain":"global","reason":"conditionNotMet","message":"m","location":"If-Match"}],
                       "code":412,"message":"At least one of the pre-conditions you specified did not hold."}}"#;
        let found = said(json);
        assert_eq!(found.code, "conditionNotMet");
        assert!(detail(StatusCode::PRECONDITION_FAILED, &found).starts_with("412 conditionNotMet: At least one"));
        let xml = b"<?xml version='1.0'?><Error><Code>NoSuchUpload</Code><Message>gone</Message></Error>";
        assert_eq!((said(xml).code.as_str(), said(xml).message.as_str()), ("NoSuchUpload", "gone"));
        assert_eq!(said(b"Not Found"), Said::default());
        assert!(said(b"<!doctype html>").html);
        // The newer form has no list of reasons.
        assert_eq!(said(br#"{"error":{"code":403,"message":"no","status":"PERMISSION_DENIED"}}"#).message, "no");
    }

    #[test]
    fn statuses_and_reasons_have_one_kind_each() {
        let table = [
            (404, "notFound", "No such object: b/k", Kind::NotFound),
            (404, "notFound", "The specified bucket does not exist.", Kind::NoBucket),
            (404, "", "", Kind::NotFound),
            (404, "NoSuchBucket", "", Kind::NoBucket),
            (404, "NoSuchUpload", "", Kind::NotFound),
            (412, "conditionNotMet", "", Kind::Precondition),
            (412, "PreconditionFailed", "", Kind::Precondition),
            (304, "", "", Kind::Precondition),
            (416, "", "", Kind::Precondition),
            (401, "authError", "", Kind::Credentials),
            (401, "", "", Kind::Credentials),
            (400, "required", "no user project", Kind::Other),
            (403, "forbidden", "", Kind::Permission),
            (403, "rateLimitExceeded", "", Kind::Throttled),
            (429, "", "", Kind::Throttled),
            (503, "SlowDown", "", Kind::Throttled),
            (503, "backendError", "", Kind::Server),
            (503, "", "", Kind::Server),
            (500, "", "", Kind::Server),
            (408, "", "", Kind::Timeout),
            (410, "", "", Kind::Server),
            (400, "BadDigest", "", Kind::Corrupt),
            (400, "invalid", "Provided CRC32C \"x\" doesn't match calculated CRC32C \"y\".", Kind::Corrupt),
            (400, "invalid", "Invalid object name", Kind::InvalidKey),
            (400, "invalid", "Invalid storage class", Kind::Other),
            (400, "NotImplemented", "", Kind::Unsupported),
        ];
        for (status, code, message, expected) in table {
            let said = Said { code: code.into(), message: message.into(), html: false };
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(kind(status, &said, Kind::NotFound), expected, "{status} {code} {message}");
        }
        assert_eq!(kind(StatusCode::NOT_FOUND, &Said::default(), Kind::NoBucket), Kind::NoBucket);
        let html = Said { html: true, ..Said::default() };
        assert_eq!(kind(StatusCode::NOT_FOUND, &html, Kind::NoBucket), Kind::Protocol);
    }
}
