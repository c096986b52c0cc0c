//! Which keys take part in a copy: patterns on keys, sizes and ages of the source (rule 7). Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::OnceLock;

use globset::{GlobBuilder, GlobMatcher};
use manifest::{Listed, ObjectKey};
use serde::{Deserialize, Serialize};

/// One `--include` or `--exclude`, in the order given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// `true` for `--include`.
    pub include: bool,
    /// A glob: `*` and `?` stay within a segment, `**` crosses `/`, `[a-z]`, `{a,b}`. Without a `/` it is matched with the
    /// last segment of a key, with one with the whole key.
    pub pattern: String,
}

/// The filters of a job, as asked for. The first rule that matches a key decides; when none does, the key takes part
/// unless there is an `--include`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Patterns, first match wins.
    pub rules: Vec<Rule>,
    /// Leave out smaller source objects.
    pub min_size_bytes: Option<u64>,
    /// Leave out larger source objects.
    pub max_size_bytes: Option<u64>,
    /// Leave out source objects last modified before this time (nanoseconds since 1970).
    pub newer_than_ns: Option<i64>,
    /// Leave out source objects last modified after this time (nanoseconds since 1970).
    pub older_than_ns: Option<i64>,
    /// `--files-from` was given: only its keys take part; they travel apart.
    pub listed_only: bool,
    #[serde(skip)]
    compiled: OnceLock<Vec<Option<GlobMatcher>>>,
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        let parts = |f: &Filter| {
            (f.rules.clone(), f.min_size_bytes, f.max_size_bytes, f.newer_than_ns, f.older_than_ns, f.listed_only)
        };
        parts(self) == parts(other)
    }
}

/// Why a source object is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// An `--exclude`, or no `--include`, matches its key, or `--files-from` does not name it.
    Key,
    /// Its size.
    Size,
    /// Its age.
    Age,
}

impl LeftOut {
    /// The reason in words.
    pub fn reason(self) -> &'static str {
        match self {
            LeftOut::Key => "filtered",
            LeftOut::Size => "filtered by size",
            LeftOut::Age => "filtered by age",
        }
    }
}

/// Compiles one pattern, for checking it where it is typed.
pub fn compile(pattern: &str) -> Result<(), String> {
    matcher(pattern).map(drop).map_err(|error| error.kind().to_string())
}

fn matcher(pattern: &str) -> Result<GlobMatcher, globset::Error> {
    GlobBuilder::new(pattern.trim_start_matches('/'))
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map(|glob| glob.compile_matcher())
}

impl Filter {
    /// One that leaves out what any of these patterns matches.
    pub fn excluding(patterns: &[&str]) -> Self {
        let rule = |pattern: &&str| Rule { include: false, pattern: (*pattern).to_owned() };
        Self { rules: patterns.iter().map(rule).collect(), ..Self::default() }
    }

    /// Whether every pattern can be read; an unreadable one would match nothing in silence.
    pub fn validate(&self) -> Result<(), String> {
        self.rules
            .iter()
            .try_for_each(|rule| compile(&rule.pattern).map_err(|why| format!("the pattern {:?}: {why}", rule.pattern)))
    }

    /// Whether the key takes part by its name.
    pub fn takes_key(&self, key: &ObjectKey) -> bool {
        self.deciding_rule(key).map_or_else(|| !self.rules.iter().any(|rule| rule.include), |rule| rule.include)
    }

    /// Whether everything below `folder` is left out by an `--exclude` that no rule before it can undo (case 16).
    pub fn excludes_folder(&self, folder: &ObjectKey) -> bool {
        // Names that no pattern but a wildcard matches stand for "anything below".
        let probes =
            ["\u{1}\u{2}probe", "\u{1}\u{2}probe/\u{1}\u{2}probe"].map(|probe| ObjectKey::from(probe).below(folder));
        let first_include = self.rules.iter().position(|rule| rule.include).unwrap_or(usize::MAX);
        probes.iter().all(|probe| {
            self.deciding_index(probe).is_some_and(|index| index < first_include && !self.rules[index].include)
        })
    }

    /// Why a source object is left out, or `None` when it takes part.
    pub fn leaves_out(&self, listed: &Listed) -> Option<LeftOut> {
        if !self.takes_key(&listed.key) {
            return Some(LeftOut::Key);
        }
        let size = listed.fingerprint.size_bytes;
        if self.min_size_bytes.is_some_and(|min| size < min) || self.max_size_bytes.is_some_and(|max| size > max) {
            return Some(LeftOut::Size);
        }
        let mtime = listed.fingerprint.mtime_ns?;
        let too_old = self.newer_than_ns.is_some_and(|limit| mtime < limit);
        let too_young = self.older_than_ns.is_some_and(|limit| mtime > limit);
        (too_old || too_young).then_some(LeftOut::Age)
    }

    fn deciding_rule(&self, key: &ObjectKey) -> Option<&Rule> {
        self.deciding_index(key).map(|index| &self.rules[index])
    }

    fn deciding_index(&self, key: &ObjectKey) -> Option<usize> {
        let matchers =
            self.compiled.get_or_init(|| self.rules.iter().map(|rule| matcher(&rule.pattern).ok()).collect());
        let last = key.as_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default();
        self.rules.iter().zip(matchers).position(|(rule, matcher)| {
            let subject = if rule.pattern.contains('/') { key.as_bytes() } else { last };
            matcher.as_ref().is_some_and(|matcher| matcher.is_match(Path::new(OsStr::from_bytes(subject))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifest::{EntryKind, Fingerprint};

    fn filter(rules: &[(bool, &str)]) -> Filter {
        let rules = rules.iter().map(|(include, pattern)| Rule { include: *include, pattern: (*pattern).into() });
        Filter { rules: rules.collect(), ..Filter::default() }
    }

    #[test]
    fn rule_07_first_match_wins_and_an_include_excludes_the_rest() {
        type Row = (&'static [(bool, &'static str)], &'static str, bool);
        let table: [Row; 12] = [
            (&[], "a/b", true),
            (&[(false, "*.tmp")], "a/b.tmp", false),
            (&[(false, "*.tmp")], "a/b.csv", true),
            (&[(true, "*.csv")], "a/b.csv", true),
            (&[(true, "*.csv")], "a/b.txt", false),
            (&[(true, "keep.tmp"), (false, "*.tmp")], "x/keep.tmp", true),
            (&[(false, "*.tmp"), (true, "keep.tmp")], "x/keep.tmp", false),
            (&[(false, "logs/**")], "logs/a/b", false),
            (&[(false, "logs/*")], "logs/a/b", true),
            (&[(false, "**/_temporary/**")], "t/_temporary/0/x", false),
            (&[(false, "/top")], "top", false),
            (&[(false, "/top")], "a/top", true),
        ];
        for (rules, key, taken) in table {
            assert_eq!(filter(rules).takes_key(&key.into()), taken, "{rules:?} on {key}");
        }
    }

    #[test]
    fn case_16_a_folder_is_excluded_only_for_certain() {
        let table: [(&[(bool, &str)], bool); 6] = [
            (&[(false, "backup/**")], true),
            (&[(false, "backup/*")], false),
            (&[(true, "*.csv"), (false, "backup/**")], false),
            (&[(false, "backup/**"), (true, "*.csv")], true),
            (&[(false, "*.csv")], false),
            (&[], false),
        ];
        for (rules, certain) in table {
            assert_eq!(filter(rules).excludes_folder(&"backup".into()), certain, "{rules:?}");
        }
    }

    #[test]
    fn rule_07_sizes_and_ages() {
        let listed = |size_bytes, mtime| Listed {
            key: "k".into(),
            kind: EntryKind::Object,
            fingerprint: Fingerprint { size_bytes, mtime_ns: Some(mtime), ..Fingerprint::default() },
        };
        let bounds = Filter {
            min_size_bytes: Some(10),
            max_size_bytes: Some(20),
            newer_than_ns: Some(-5),
            older_than_ns: Some(5),
            ..Filter::default()
        };
        let table = [
            (10, 0, None),
            (20, 5, None),
            (9, 0, Some(LeftOut::Size)),
            (21, 0, Some(LeftOut::Size)),
            (15, -6, Some(LeftOut::Age)),
            (15, 6, Some(LeftOut::Age)),
        ];
        for (size, mtime, expected) in table {
            assert_eq!(bounds.leaves_out(&listed(size, mtime)), expected, "{size} {mtime}");
        }
    }
}
