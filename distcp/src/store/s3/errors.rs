//! What an S3 server's answer means: status and `<Code>` to a [`StoreErrorKind`], decided in one table.
//!
//! Never puts a secret, a signature or a signed URL into an error. Pure; a crash leaves nothing.

use http::{HeaderMap, StatusCode};

use super::xml;
use crate::store::StoreErrorKind;
pub(super) use crate::store::wire::{cut, retry_after, transport_detail, transport_kind};

/// What a failed answer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// `<Code>`; empty when the body says nothing.
    pub code: String,
    /// `<Message>`.
    pub message: String,
    /// Region of the bucket, when the server names it.
    pub region: Option<String>,
    /// The body is an HTML page.
    pub html: bool,
}

/// Reads the body of a failed answer as far as it can be read.
pub(super) fn said(headers: &HeaderMap, body: &[u8]) -> Said {
    let header_region = headers.get("x-amz-bucket-region").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut said = Said { html: xml::is_html(body), region: header_region, ..Said::default() };
    if let Ok(root) = xml::parse(body) {
        // Some servers wrap it: <ErrorResponse><Error>.
        let error = if root.name == "Error" { Some(&root) } else { root.child("Error") };
        if let Some(error) = error {
            said.code = error.text_of("Code").unwrap_or_default().trim().to_owned();
            said.message = error.text_of("Message").unwrap_or_default().trim().to_owned();
            if let Some(region) = error.text_of("Region") {
                said.region = Some(region.to_owned());
            }
        }
    }
    said
}

/// The kind of a failed answer. `writing` tells a conditional write, whose missing target is a failed precondition.
pub(super) fn kind(status: StatusCode, said: &Said, writing: bool) -> StoreErrorKind {
    use StoreErrorKind as Kind;
    match said.code.as_str() {
        "NoSuchBucket" => return Kind::NoBucket,
        "NoSuchKey" | "NotFound" if writing => return Kind::Precondition,
        "NoSuchKey" | "NoSuchUpload" | "NoSuchVersion" | "NotFound" => return Kind::NotFound,
        "PreconditionFailed" | "ObjectAlreadyExists" | "InvalidRange" => return Kind::Precondition,
        "ConditionalRequestConflict" | "OperationAborted" => return Kind::Server,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "InvalidSecurity"
        | "TokenRefreshRequired"
        | "RequestTimeTooSkewed"
        | "RequestExpired"
        | "MissingSecurityHeader"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "NotSignedUp"
        | "XAdminUserNotFound"
        | "CredentialsNotSupported" => {
            return Kind::Credentials;
        }
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "UnauthorizedAccess" | "AccessForbidden" => {
            return Kind::Permission;
        }
        "InvalidObjectState" => return Kind::Archived,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "BandwidthLimitExceeded" => return Kind::Throttled,
        "RequestTimeout" | "RequestTimeoutException" => return Kind::Timeout,
        "IncompleteBody" | "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" => {
            return Kind::Corrupt;
        }
        "InternalError" | "ServiceUnavailable" => return Kind::Server,
        "KeyTooLongError"
        | "InvalidObjectName"
        | "XMinioInvalidObjectName"
        | "InvalidURI"
        | "DirectoryObjectContainsData" => return Kind::InvalidKey,
        "XMinioObjectExistsAsDirectory"
        | "ObjectParentIsFile"
        | "ExistingObjectIsDirectory"
        | "XMinioParentIsObject" => return Kind::KindConflict,
        "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" => return Kind::Other,
        "NotImplemented" | "MethodNotAllowed" => return Kind::Unsupported,
        "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" => return Kind::NoSpace,
        _ => {}
    }
    match status.as_u16() {
        412 | 304 | 416 => Kind::Precondition,
        404 if said.html => Kind::Protocol,
        404 if writing => Kind::Precondition,
        404 => Kind::NotFound,
        401 => Kind::Credentials,
        403 => Kind::Permission,
        408 => Kind::Timeout,
        429 => Kind::Throttled,
        501 | 405 => Kind::Unsupported,
        507 => Kind::NoSpace,
        500..=599 => Kind::Server,
        200..=399 if said.region.is_none() => Kind::Protocol,
        _ if said.html => Kind::Protocol,
        _ => Kind::Other,
    }
}

/// The words of an error: status, code, message and a hint where one helps. Cut, on one line.
pub(super) fn detail(status: StatusCode, said: &Said, region: &str) -> String {
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
    match said.code.as_str() {
        "RequestTimeTooSkewed" | "RequestExpired" => text.push_str("; set this machine's clock"),
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "TemporaryRedirect"
        | "IllegalLocationConstraintException" => match &said.region {
            Some(found) => text.push_str(&format!("; the bucket is in region {}, not {region}", cut(found))),
            None => text.push_str(&format!("; the bucket is not in region {region}")),
        },
        "" => {
            if let Some(found) = said.region.as_deref().filter(|found| *found != region && status.is_redirection()) {
                text.push_str(&format!("; the bucket is in region {}, not {region}", cut(found)));
            }
        }
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use StoreErrorKind as Kind;

    fn code(code: &str) -> Said {
        Said { code: code.into(), ..Said::default() }
    }

    #[test]
    fn statuses_and_codes_have_one_kind_each() {
        let table = [
            (404, "NoSuchBucket", Kind::NoBucket),
            (404, "NoSuchKey", Kind::NotFound),
            (404, "NoSuchUpload", Kind::NotFound),
            (404, "", Kind::NotFound),
            (403, "InvalidAccessKeyId", Kind::Credentials),
            (403, "SignatureDoesNotMatch", Kind::Credentials),
            (400, "ExpiredToken", Kind::Credentials),
            (403, "RequestTimeTooSkewed", Kind::Credentials),
            (403, "AccessDenied", Kind::Permission),
            (403, "", Kind::Permission),
            (401, "", Kind::Credentials),
            (403, "InvalidObjectState", Kind::Archived),
            (412, "PreconditionFailed", Kind::Precondition),
            (409, "ConditionalRequestConflict", Kind::Server),
            (503, "SlowDown", Kind::Throttled),
            (429, "", Kind::Throttled),
            (503, "", Kind::Server),
            (500, "InternalError", Kind::Server),
            (200, "InternalError", Kind::Server),
            (502, "", Kind::Server),
            (504, "", Kind::Server),
            (400, "RequestTimeout", Kind::Timeout),
            (400, "BadDigest", Kind::Corrupt),
            (301, "PermanentRedirect", Kind::Other),
            (400, "InvalidArgument", Kind::Other),
            (501, "NotImplemented", Kind::Unsupported),
        ];
        for (status, words, expected) in table {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(kind(status, &code(words), false), expected, "{status} {words}");
        }
        assert_eq!(kind(StatusCode::NOT_FOUND, &code("NoSuchKey"), true), Kind::Precondition);
        let html = Said { html: true, ..Said::default() };
        assert_eq!(kind(StatusCode::OK, &html, false), Kind::Protocol);
        assert_eq!(kind(StatusCode::NOT_FOUND, &html, false), Kind::Protocol);
        assert_eq!(kind(StatusCode::BAD_GATEWAY, &html, false), Kind::Server);
    }

    #[test]
    fn a_wrong_region_is_named() {
        let body = b"<Error><Code>PermanentRedirect</Code><Message>use it</Message><Region>eu-west-1</Region></Error>";
        let said = said(&HeaderMap::new(), body);
        let text = detail(StatusCode::MOVED_PERMANENTLY, &said, "us-east-1");
        assert!(text.contains("region eu-west-1, not us-east-1"), "{text}");
        assert_eq!(kind(StatusCode::MOVED_PERMANENTLY, &said, false), Kind::Other);
        let skewed = detail(StatusCode::FORBIDDEN, &code("RequestTimeTooSkewed"), "r");
        assert!(skewed.contains("clock"), "{skewed}");
    }

    #[test]
    fn details_are_cut_to_one_line() {
        let said = Said { message: "x\n".repeat(1000), ..Said::default() };
        let text = detail(StatusCode::BAD_REQUEST, &said, "r");
        assert!(text.chars().count() <= 303 && !text.contains('\n'));
    }
}
