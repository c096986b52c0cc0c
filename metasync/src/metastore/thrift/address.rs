//! The hosts in a URL. Pure.

use crate::metastore::{Error, Result};
use std::fmt;

/// Where a metastore listens if nothing is said.
const DEFAULT_PORT: u16 = 9083;
/// The most hosts of one metastore.
const MAX_HOSTS: usize = 32;

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// `thrift://a:1,b:2` and Hive's own `thrift://a:1,thrift://b:2`.
pub(super) fn parse(url: &str) -> Result<Vec<Host>> {
    let wrong = |why: String| Error::Url { url: url.to_owned(), why };
    let rest = url.strip_prefix("thrift://").ok_or_else(|| wrong("it does not begin with thrift://".to_owned()))?;
    let mut hosts = Vec::new();
    for part in rest.split(',') {
        let part = part.trim();
        let part = part.strip_prefix("thrift://").unwrap_or(part).trim_end_matches('/');
        hosts.push(host(part).map_err(wrong)?);
    }
    if hosts.len() > MAX_HOSTS {
        return Err(wrong(format!("more than {MAX_HOSTS} hosts")));
    }
    Ok(hosts)
}

fn host(part: &str) -> std::result::Result<Host, String> {
    if part.contains(['/', '@', '?', '#']) {
        return Err(format!("`{part}` is not host:port"));
    }
    let (name, port) = match part.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, rest)) => (name, rest.strip_prefix(':')),
        None => match part.rsplit_once(':') {
            Some((name, _)) if name.contains(':') => (part, None),
            Some((name, port)) => (name, Some(port)),
            None => (part, None),
        },
    };
    if name.is_empty() {
        return Err(format!("`{part}` names no host"));
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("`{port}` is no port"))?,
    };
    Ok(Host { name: name.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_in_every_form_that_hive_takes() {
        let cases = [
            ("thrift://a:1", vec!["a:1"]),
            ("thrift://a", vec!["a:9083"]),
            ("thrift://a:1,b:2", vec!["a:1", "b:2"]),
            ("thrift://a:1,thrift://b:2/", vec!["a:1", "b:2"]),
            ("thrift://[::1]:7,[::2]", vec!["[::1]:7", "[::2]:9083"]),
        ];
        for (url, expected) in cases {
            let hosts: Vec<String> = parse(url).unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(hosts, expected, "{url}");
        }
    }

    #[test]
    fn what_is_no_metastore_url_is_named() {
        for url in [
            "http://a:1",
            "thrift://",
            "thrift://a:x",
            "thrift://a:0",
            "thrift://a:1/db",
            "thrift://u:p@a:1",
            "thrift://a,,b",
        ] {
            assert!(matches!(parse(url), Err(Error::Url { .. })), "{url}");
        }
    }
}
