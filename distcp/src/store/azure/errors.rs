//! What an Azure Blob server's answer means: status and error code to a [`StoreErrorKind`], decided in one table.
//!
//! Never puts a secret, a signature or a signed URL into an error: of a message only the first line is shown, because the
//! others repeat what was signed. Pure; a crash leaves nothing.

use http::{HeaderMap, StatusCode};

use crate::store::wire::{cut, text_of};
use crate::store::{StoreErrorKind, xml};

/// What a failed answer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// `x-ms-error-code`, else `<Code>`; empty when neither is there.
    pub code: String,
    /// The first line of `<Message>`.
    pub message: String,
    /// The body is an HTML page.
    pub html: bool,
}

/// Reads a failed answer as far as it can be read.
pub(super) fn said(headers: &HeaderMap, body: &[u8]) -> Said {
    let mut said = Said { html: xml::is_html(body), ..Said::default() };
    // Azure begins its XML with a byte order mark.
    if let Ok(root) = xml::parse(body)
        && root.name == "Error"
    {
        said.code = root.text_of("Code").unwrap_or_default().trim().to_owned();
        said.message = root.text_of("Message").unwrap_or_default().trim().lines().next().unwrap_or_default().to_owned();
    }
    // The answer to a HEAD has no body: the header says it.
    if let Some(code) = text_of(headers, "x-ms-error-code").filter(|code| !code.is_empty()) {
        said.code = code.to_owned();
    }
    said
}

/// The kind of a failed answer. `conditional` tells a request with If-Match, whose missing target is a failed
/// precondition.
pub(super) fn kind(status: StatusCode, said: &Said, conditional: bool) -> StoreErrorKind {
    use StoreErrorKind as Kind;
    match said.code.as_str() {
        "ContainerNotFound" | "ContainerDisabled" => return Kind::NoBucket,
        "BlobNotFound" | "ResourceNotFound" if conditional => return Kind::Precondition,
        "BlobNotFound" | "ResourceNotFound" | "InvalidBlockList" => return Kind::NotFound,
        "ConditionNotMet"
        | "TargetConditionNotMet"
        | "SourceConditionNotMet"
        | "BlobAlreadyExists"
        | "ResourceAlreadyExists"
        | "InvalidRange" => return Kind::Precondition,
        "AuthenticationFailed"
        | "InvalidAuthenticationInfo"
        | "NoAuthenticationInformation"
        | "MissingRequiredAuthenticationInformation"
        | "KeyVaultEncryptionKeyNotFound"
        | "AccountNotFound" => return Kind::Credentials,
        // Azurite says so of a wrong signature, too.
        "AuthorizationFailure" if said.message.starts_with("Server failed to authenticate") => {
            return Kind::Credentials;
        }
        "AuthorizationFailure"
        | "AuthorizationPermissionMismatch"
        | "AuthorizationProtocolMismatch"
        | "AuthorizationResourceTypeMismatch"
        | "AuthorizationServiceMismatch"
        | "AuthorizationSourceIPMismatch"
        | "InsufficientAccountPermissions"
        | "UnauthorizedBlobOverwrite"
        | "AccountIsDisabled"
        | "PublicAccessNotPermitted"
        | "BlobImmutableDueToPolicy" => return Kind::Permission,
        "BlobArchived" | "BlobBeingRehydrated" => return Kind::Archived,
        "ServerBusy" | "OperationRateLimitExceeded" | "TooManyRequests" => return Kind::Throttled,
        "OperationTimedOut" => return Kind::Timeout,
        "Md5Mismatch" | "Crc64Mismatch" => return Kind::Corrupt,
        "InternalError" | "ContainerBeingDeleted" | "PendingCopyOperation" | "AccountBeingCreated" => {
            return Kind::Server;
        }
        "InvalidResourceName" | "InvalidUri" | "RequestUrlFailedToParse" | "OutOfRangeInput" => {
            return Kind::InvalidKey;
        }
        "ResourceTypeMismatch" | "PathConflict" | "DirectoryNotEmpty" => return Kind::KindConflict,
        "InvalidBlobType"
        | "FeatureNotSupportedForHierarchicalNamespaceAccount"
        | "FeatureVersionMismatch"
        | "UnsupportedHttpVerb"
        | "NotImplemented" => return Kind::Unsupported,
        // A lease of another client is a 412, too, and no matter of versions.
        "LeaseIdMissing" | "LeaseIdMismatchWithBlobOperation" | "LeaseLost" | "SnapshotsPresent" => {
            return Kind::Other;
        }
        _ => {}
    }
    match status.as_u16() {
        412 | 304 | 416 => Kind::Precondition,
        404 if said.html => Kind::Protocol,
        404 if conditional => Kind::Precondition,
        404 => Kind::NotFound,
        401 => Kind::Credentials,
        403 => Kind::Permission,
        408 => Kind::Timeout,
        429 => Kind::Throttled,
        501 | 405 => Kind::Unsupported,
        507 => Kind::NoSpace,
        500..=599 => Kind::Server,
        200..=399 => Kind::Protocol,
        _ if said.html => Kind::Protocol,
        _ => Kind::Other,
    }
}

/// The words of an error: status, code, message and a hint where one helps. Cut, on one line.
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
    text.push_str(match said.code.as_str() {
        "BlobArchived" => "; rehydrate it first: az storage blob set-tier --tier Hot",
        "BlobBeingRehydrated" => "; it is being rehydrated, which takes hours: come back then",
        "AuthenticationFailed" => "; check the account's name, its key or the SAS, and this machine's clock",
        "AuthorizationPermissionMismatch" => "; a role like Storage Blob Data Contributor is needed",
        "InvalidBlobOrBlock" | "InvalidBlockId" => {
            "; another program left an upload with block names of another length: it expires after a week"
        }
        "LeaseIdMissing" | "LeaseIdMismatchWithBlobOperation" => "; another client holds a lease on it",
        "SnapshotsPresent" => "; it has snapshots: delete those first",
        "InvalidBlobType" => "; only block blobs are written, and an append or page blob stands there",
        _ => "",
    });
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
            (404, "ContainerNotFound", Kind::NoBucket),
            (404, "BlobNotFound", Kind::NotFound),
            (404, "", Kind::NotFound),
            (400, "InvalidBlockList", Kind::NotFound),
            (412, "ConditionNotMet", Kind::Precondition),
            (409, "BlobAlreadyExists", Kind::Precondition),
            (412, "LeaseIdMissing", Kind::Other),
            (416, "InvalidRange", Kind::Precondition),
            (304, "", Kind::Precondition),
            (403, "AuthenticationFailed", Kind::Credentials),
            (401, "NoAuthenticationInformation", Kind::Credentials),
            (403, "AuthorizationFailure", Kind::Permission),
            (403, "AuthorizationPermissionMismatch", Kind::Permission),
            (403, "", Kind::Permission),
            (409, "BlobArchived", Kind::Archived),
            (503, "ServerBusy", Kind::Throttled),
            (503, "", Kind::Server),
            (500, "OperationTimedOut", Kind::Timeout),
            (500, "InternalError", Kind::Server),
            (409, "PendingCopyOperation", Kind::Server),
            (400, "Md5Mismatch", Kind::Corrupt),
            (400, "InvalidResourceName", Kind::InvalidKey),
            (409, "InvalidBlobType", Kind::Unsupported),
            (409, "SnapshotsPresent", Kind::Other),
            (400, "InvalidHeaderValue", Kind::Other),
        ];
        for (status, words, expected) in table {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(kind(status, &code(words), false), expected, "{status} {words}");
        }
        assert_eq!(kind(StatusCode::NOT_FOUND, &code("BlobNotFound"), true), Kind::Precondition);
        let html = Said { html: true, ..Said::default() };
        assert_eq!(kind(StatusCode::OK, &html, false), Kind::Protocol);
        assert_eq!(kind(StatusCode::BAD_GATEWAY, &html, false), Kind::Server);
    }

    #[test]
    fn only_the_first_line_is_said_and_the_header_wins() {
        let body = "\u{feff}<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code><Message>Server failed.\n\
                    RequestId:1\n</Message><AuthenticationErrorDetail>signed with 'c2ln'</AuthenticationErrorDetail></Error>";
        let found = said(&HeaderMap::new(), body.as_bytes());
        assert_eq!((found.code.as_str(), found.message.as_str()), ("AuthenticationFailed", "Server failed."));
        let text = detail(StatusCode::FORBIDDEN, &found);
        assert!(text.contains("clock") && !text.contains("c2ln"), "{text}");
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-error-code", "BlobArchived".parse().unwrap());
        let found = said(&headers, b"");
        assert!(detail(StatusCode::CONFLICT, &found).contains("rehydrate"));
    }
}
