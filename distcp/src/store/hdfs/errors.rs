//! What the client and the NameNode say went wrong, classed. Pure; decides nothing but the kind.

use std::io::ErrorKind;

use hdfs_native::HdfsError;

use crate::store::StoreErrorKind;

/// Details are cut to this many bytes: a NameNode answers with a stack trace.
const MAX_DETAIL_BYTES: usize = 300;

/// The kind of a failure, and the words to show.
pub(super) fn classify(error: &HdfsError) -> (StoreErrorKind, String) {
    use StoreErrorKind as Kind;
    let kind = match error {
        HdfsError::RPCError(class, text) | HdfsError::FatalRPCError(class, text) => return remote(class, text),
        HdfsError::IOError(error) => match error.kind() {
            ErrorKind::TimedOut => Kind::Timeout,
            ErrorKind::PermissionDenied => Kind::Permission,
            _ => Kind::Connection,
        },
        HdfsError::FileNotFound(_) => Kind::NotFound,
        HdfsError::AlreadyExists(text) => {
            return (Kind::Precondition, format!("it exists already: {}", first_line(text)));
        }
        HdfsError::IsADirectoryError(_) => Kind::KindConflict,
        HdfsError::InvalidPath(_) => Kind::InvalidKey,
        HdfsError::DataTransferError(_) | HdfsError::BlocksNotFound(_) | HdfsError::OperationFailed(_) => Kind::Server,
        HdfsError::ChecksumError | HdfsError::ErasureCodingError(_) => Kind::Corrupt,
        HdfsError::InvalidRPCResponse(_) | HdfsError::InternalError(_) => Kind::Protocol,
        HdfsError::UnsupportedFeature(_) | HdfsError::UnsupportedErasureCodingPolicy(_) => Kind::Unsupported,
        HdfsError::SASLError(_) | HdfsError::GSSAPIError(..) | HdfsError::NoSASLMechanism => Kind::Credentials,
        _ => Kind::Other,
    };
    (kind, first_line(&error.to_string()))
}

/// An exception of the server, by the name of its class.
fn remote(class: &str, text: &str) -> (StoreErrorKind, String) {
    use StoreErrorKind as Kind;
    let name = class.rsplit(['.', '$']).next().unwrap_or(class);
    // A retriable exception wraps the one that says why.
    let safe_mode = name == "SafeModeException" || text.contains("SafeModeException");
    let kind = match name {
        _ if safe_mode => Kind::Server,
        "FileNotFoundException" => Kind::NotFound,
        // Something on the way is a file; with permission checks the NameNode calls it a matter of access.
        "ParentNotDirectoryException" => Kind::KindConflict,
        "AccessControlException" if text.contains("(is not a directory)") => Kind::KindConflict,
        "AccessControlException" | "AuthorizationException" => Kind::Permission,
        "PathIsNotEmptyDirectoryException" => Kind::KindConflict,
        "FileAlreadyExistsException" => Kind::Precondition,
        "PathComponentTooLongException" | "InvalidPathException" | "IllegalNameException" => Kind::InvalidKey,
        "MaxDirectoryItemsExceededException" => Kind::NoSpace,
        "DSQuotaExceededException" | "NSQuotaExceededException" | "QuotaByStorageTypeExceededException" => {
            Kind::NoSpace
        }
        "StandbyException" | "RetriableException" | "ObserverRetryOnActiveException" | "NotReplicatedYetException" => {
            Kind::Server
        }
        "RetryCacheEntryException" | "RpcServerException" | "RpcNoSuchMethodException" => Kind::Protocol,
        "SaslException" | "GSSException" | "InvalidToken" => Kind::Credentials,
        "UnsupportedOperationException" => Kind::Unsupported,
        "IOException" if text.contains("could only be written to") => Kind::Server,
        _ => Kind::Other,
    };
    (kind, format!("{name}: {}", first_line(text)))
}

/// The first line, cut.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    let end = line.char_indices().map(|(at, _)| at).find(|at| *at >= MAX_DETAIL_BYTES).unwrap_or(line.len());
    line.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_classed_by_what_a_caller_can_do() {
        use StoreErrorKind as Kind;
        let table = [
            ("org.apache.hadoop.ipc.StandbyException", "Operation category READ is not supported", Kind::Server),
            (
                "org.apache.hadoop.ipc.RetriableException",
                "org.apache.hadoop.hdfs.server.namenode.SafeModeException: Cannot create file",
                Kind::Server,
            ),
            ("org.apache.hadoop.hdfs.server.namenode.SafeModeException", "Cannot delete /x", Kind::Server),
            ("org.apache.hadoop.security.AccessControlException", "Permission denied: user=eve", Kind::Permission),
            ("org.apache.hadoop.security.AccessControlException", "/f (is not a directory)", Kind::KindConflict),
            ("org.apache.hadoop.fs.ParentNotDirectoryException", "/f (is not a directory)", Kind::KindConflict),
            ("java.io.FileNotFoundException", "File does not exist: /x", Kind::NotFound),
            ("org.apache.hadoop.hdfs.protocol.DSQuotaExceededException", "The DiskSpace quota", Kind::NoSpace),
            ("org.apache.hadoop.security.token.SecretManager$InvalidToken", "token expired", Kind::Credentials),
            ("java.lang.NullPointerException", "", Kind::Other),
        ];
        for (class, text, kind) in table {
            let found = classify(&HdfsError::RPCError(class.into(), text.into()));
            assert_eq!(found.0, kind, "{class} {text}");
        }
        let refused = std::io::Error::from(ErrorKind::ConnectionRefused);
        assert_eq!(classify(&HdfsError::IOError(refused)).0, Kind::Connection);
    }

    #[test]
    fn a_stack_trace_is_cut_to_its_first_line() {
        let text = format!("{}\n\tat org.apache.hadoop", "ü".repeat(400));
        let (_, detail) = classify(&HdfsError::RPCError("x.SomeException".into(), text));
        assert!(detail.starts_with("SomeException: ü") && detail.len() < 350 && !detail.contains('\n'));
    }
}
