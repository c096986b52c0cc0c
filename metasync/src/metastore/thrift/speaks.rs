//! What the other side speaks, when it is not what we speak: by its first bytes, or by greeting it in another way.

use super::address::Host;
use super::connect::{Connection, Fault, Options, tls_prober};
use hms::calls::GetVersion;
use std::time::Duration;

/// How long each greeting may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// SASL's messages of a negotiation are short.
const MAX_SASL_BYTES: u32 = 64 << 10;

/// Something that a server can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    Buffered,
    Framed,
    Tls,
    NoTls,
    Sasl,
    Http,
    Compact,
    Other,
}

impl Speech {
    /// In an error's words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Buffered => "Thrift without frames",
            Self::Framed => "framed Thrift",
            Self::Tls => "TLS",
            Self::NoTls => "Thrift without TLS",
            Self::Sasl => "Thrift with SASL",
            Self::Http => "HTTP",
            Self::Compact => "Thrift's compact protocol",
            Self::Other => "no protocol that is known here",
        }
    }

    /// Which setting mends it.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Buffered => {
                "the server's hive.metastore.thrift.framed.transport.enabled is false: leave framed=true out of the URL"
            }
            Self::Framed => {
                "the server's hive.metastore.thrift.framed.transport.enabled is true: add ?framed=true to the URL"
            }
            Self::Tls => "the server's hive.metastore.use.SSL is true: add ?tls=true to the URL",
            Self::NoTls => "the server's hive.metastore.use.SSL is false: leave tls=true out of the URL",
            Self::Sasl => {
                "the server's hive.metastore.sasl.enabled is true (Kerberos), which is not supported: use a metastore without it, or its database"
            }
            Self::Http => {
                "the port is that of a web server, or the server's hive.metastore.server.thrift.transport.mode is http, which is not supported"
            }
            Self::Compact => {
                "the server's hive.metastore.thrift.compact.protocol.enabled is true, which is not supported"
            }
            Self::Other => "is it the port of a Hive metastore?",
        }
    }
}

/// What the first bytes of a reply say, if it is not what was expected. `None`: it is, or there are too few bytes yet.
pub(super) fn recognise(bytes: &[u8], framed: bool) -> Option<Speech> {
    let first: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    let message = |bytes: &[u8]| bytes.starts_with(&[0x80, 0x01]);
    if framed {
        return match first {
            _ if message(&first) => Some(Speech::Buffered),
            [0..=0x1f, ..] if bytes.len() < 6 || message(&bytes[4..]) => None,
            _ => Some(foreign(first, bytes)),
        };
    }
    match first {
        _ if message(&first) => None,
        [0..=0x1f, ..] if bytes.len() >= 6 && message(&bytes[4..]) => Some(Speech::Framed),
        [0, ..] if bytes.len() < 6 => None,
        _ => Some(foreign(first, bytes)),
    }
}

fn foreign(first: [u8; 4], bytes: &[u8]) -> Speech {
    let length = bytes.get(1..5).and_then(|found| found.try_into().ok()).map(u32::from_be_bytes);
    match first {
        [b'H', b'T', b'T', b'P'] => Speech::Http,
        [0x15 | 0x16, 0x03, 0..=4, _] => Speech::Tls,
        [0x82, ..] => Speech::Compact,
        [1..=5, 0, ..] if length.is_none_or(|length| length <= MAX_SASL_BYTES) => Speech::Sasl,
        _ => Speech::Other,
    }
}

/// Greets a server that said nothing in other ways, and says what it understands.
pub(super) async fn probe(host: &Host, options: &Options) -> Option<Speech> {
    if options.tls.is_some() {
        let plain = answers(host, options.framed).await || answers(host, !options.framed).await;
        return plain.then_some(Speech::NoTls);
    }
    if answers(host, !options.framed).await {
        return Some(if options.framed { Speech::Buffered } else { Speech::Framed });
    }
    speaks_tls(host).await.then_some(Speech::Tls)
}

async fn answers(host: &Host, framed: bool) -> bool {
    match Connection::open(host, framed, None, PROBE_TIMEOUT).await {
        Ok(mut connection) => connection.call(&GetVersion {}, PROBE_TIMEOUT).await.is_ok(),
        Err(_) => false,
    }
}

async fn speaks_tls(host: &Host) -> bool {
    let Ok(prober) = tls_prober() else { return false };
    match Connection::open(host, false, Some(&prober), PROBE_TIMEOUT).await {
        Ok(_) => true,
        // Its certificate is not trusted, or it does not like our offer: both are said in TLS.
        Err(Fault::Tls(why)) => !why.contains("corrupt message"),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_name_what_is_spoken() {
        let cases: [(&[u8], bool, Option<Speech>); 12] = [
            (b"\x80\x01\x00\x02", false, None),
            (b"\x80\x01\x00\x02", true, Some(Speech::Buffered)),
            (b"\x00\x00\x01\x00\x80\x01", true, None),
            (b"\x00\x00\x01\x00\x80\x01", false, Some(Speech::Framed)),
            (b"\x00\x00\x01\x00", false, None),
            (b"HTTP/1.1 400 Bad Request", false, Some(Speech::Http)),
            (b"HTTP/1.1 400 Bad Request", true, Some(Speech::Http)),
            (b"\x15\x03\x03\x00\x02\x02\x28", false, Some(Speech::Tls)),
            (b"\x15\x03\x03\x00\x02\x02\x28", true, Some(Speech::Tls)),
            (b"\x04\x00\x00\x00\x13Invalid", false, Some(Speech::Sasl)),
            (b"\x82\x41\x00\x00", false, Some(Speech::Compact)),
            (b"SSH-2.0", false, Some(Speech::Other)),
        ];
        for (bytes, framed, expected) in cases {
            assert_eq!(recognise(bytes, framed), expected, "{bytes:?} {framed}");
        }
        assert_eq!(recognise(b"HT", false), None);
    }
}
