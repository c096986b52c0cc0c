//! From keys to paths of HDFS, and which keys it cannot carry. Pure; touches nothing.

use manifest::ObjectKey;

use crate::store::local::path::is_temporary;

/// The longest path that a NameNode takes, in characters.
const MAX_PATH_CHARS: usize = 8000;
/// The most folders above a file that a NameNode takes, itself included.
const MAX_PATH_LEVELS: usize = 1000;

/// A path in HDFS: absolute, without a slash at its end but for the root of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HdfsPath(String);

impl HdfsPath {
    /// The path of an opened root, whose key is the part of a place after its authority.
    pub(super) fn root(path: &ObjectKey) -> Result<Self, &'static str> {
        let text = path.as_str().ok_or("it is not UTF-8")?;
        if !text.is_empty() {
            // A snapshot may be read, so its name is allowed here.
            check(text, |segment| segment == ".snapshot")?;
        }
        Ok(Self(format!("/{text}")))
    }

    /// The path of a key below this root; the empty key is the root itself.
    pub(super) fn below(&self, key: &ObjectKey) -> Result<Self, &'static str> {
        if key.is_empty() {
            return Ok(self.clone());
        }
        let text = key.as_str().ok_or("names in HDFS are UTF-8")?;
        check(text, |_| false)?;
        let path = self.join(text);
        if path.0.chars().count() > MAX_PATH_CHARS || path.0.split('/').count() > MAX_PATH_LEVELS {
            return Err("HDFS takes paths of up to 8,000 characters and 1,000 levels");
        }
        Ok(path)
    }

    /// This path and a name, or several, in it.
    pub(super) fn join(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0.trim_end_matches('/')))
    }

    /// The folder that it stands in, and its name; `None` for the root of all.
    pub(super) fn split(&self) -> Option<(Self, &str)> {
        let (parent, name) = self.0.rsplit_once('/').filter(|(_, name)| !name.is_empty())?;
        Some((Self(if parent.is_empty() { "/".to_owned() } else { parent.to_owned() }), name))
    }

    /// This path and those of the folders above it, up to the root of all.
    pub(super) fn upwards(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), |path| path.split().map(|(folder, _)| folder))
    }

    /// As the NameNode takes it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why HDFS cannot hold such a path under this name.
fn check(text: &str, allowed: impl Fn(&str) -> bool) -> Result<(), &'static str> {
    for segment in text.split('/') {
        match segment {
            "" => return Err("it has an empty segment: HDFS takes // for / and drops a slash at an end"),
            "." | ".." => return Err("it has a . or .. segment"),
            name if name.contains(':') => return Err("HDFS takes no colon in a name"),
            name if name.contains('\0') => return Err("it has a NUL byte"),
            ".snapshot" | ".reserved" if !allowed(segment) => return Err("HDFS keeps this name for itself"),
            name if is_temporary(name.as_bytes()) => return Err("the name is reserved for temporary files"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_37_keys_that_hdfs_would_alias_or_refuse_are_refused() {
        let root = HdfsPath::root(&"lake".into()).unwrap();
        let deep = "x/".repeat(999) + "x";
        let long = "x".repeat(8000);
        let refused = [
            "a//b",
            "/a",
            "a/",
            "..",
            "a/./b",
            "a:b",
            "a\0b",
            ".snapshot/x",
            "a/.reserved",
            "a/.understudy-0123456789abcdef.tmp/x",
            deep.as_str(),
            long.as_str(),
        ];
        for key in refused {
            assert!(root.below(&key.into()).is_err(), "{key}");
        }
        assert!(root.below(&ObjectKey::from(b"\xff".to_vec())).is_err());
        for key in ["a", "...", "a b", "x\ny", "%2f", "back\\slash", "\u{65e5}"] {
            assert_eq!(root.below(&key.into()).unwrap().as_str(), format!("/lake/{key}"));
        }
    }

    #[test]
    fn roots_and_folders_have_one_spelling() {
        let top = HdfsPath::root(&"".into()).unwrap();
        assert_eq!((top.as_str(), top.split()), ("/", None));
        let a = top.below(&"a".into()).unwrap();
        assert_eq!(a.as_str(), "/a");
        assert_eq!(a.split().unwrap(), (top, "a"));
        let snapshot = HdfsPath::root(&"a/.snapshot/s1".into()).unwrap();
        assert_eq!(snapshot.as_str(), "/a/.snapshot/s1");
        assert_eq!(snapshot.split().unwrap().0.as_str(), "/a/.snapshot");
        let folders: Vec<String> = snapshot.upwards().map(|folder| folder.0).collect();
        assert_eq!(folders, ["/a/.snapshot/s1", "/a/.snapshot", "/a", "/"]);
        assert!(HdfsPath::root(&"a:b".into()).is_err());
    }
}
