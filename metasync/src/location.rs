//! Locations in metadata, and where they stand on the replica: the `[[locations]]` of a policy.
//!
//! Pure text, as it stands in a metastore: nothing is resolved and nothing is asked. Schemes s3, s3a and s3n are one, as are
//! `file:/x`, `file:///x` and `/x`; a location matches at a segment boundary, the longest match wins, and what is written
//! takes the form of `to` (rule 4).

use std::collections::BTreeMap;
use std::fmt;

/// A location, taken apart. `Display` is how it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    text: String,
    /// Scheme and authority, normalised: equal for equal places.
    service: String,
    /// Without slashes at the ends, without empty segments.
    segments: Vec<String>,
}

impl Location {
    /// Takes it apart. Errors: no absolute path and no URL; then why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            _ if text.starts_with('/') => ("file".to_owned(), text),
            _ => return Err(format!("`{text}` is neither a URL nor an absolute path")),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None if rest.starts_with('/') => ("", rest),
            None => return Err(format!("`{text}` has no absolute path")),
        };
        let scheme = match scheme.as_str() {
            "s3a" | "s3n" => "s3",
            "wasbs" | "wasb" | "abfs" => "abfss",
            other => other,
        };
        // A container of an account is one place, whichever of its two endpoints is named.
        let authority = authority.to_ascii_lowercase().replace(".blob.core.", ".dfs.core.");
        let segments: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if segments.iter().any(|part| part == "." || part == "..") {
            return Err(format!("`{text}` has a segment `.` or `..`"));
        }
        Ok(Self { text: text.to_owned(), service: format!("{scheme}://{authority}"), segments })
    }

    /// Whether `other` is this place or inside it; then the segments that lead there.
    pub fn relative<'a>(&self, other: &'a Self) -> Option<&'a [String]> {
        match self.service == other.service {
            true => other.segments.strip_prefix(self.segments.as_slice()),
            false => None,
        }
    }

    /// Whether both are one place, however written.
    pub fn is_same(&self, other: &Self) -> bool {
        self.relative(other).is_some_and(<[String]>::is_empty)
    }

    /// Whether one is inside the other, or both are one.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.relative(other).is_some() || other.relative(self).is_some()
    }

    /// The place that these segments lead to from here, in this place's form; a local one as Hadoop prints it, `file:/x`,
    /// which is what servers make of every other form.
    pub fn join(&self, segments: &[String]) -> Self {
        let mut joined = self.clone();
        if self.is_local() {
            joined.text = format!("file:/{}", joined.segments.join("/"));
        }
        for segment in segments {
            if !joined.text.ends_with('/') {
                joined.text.push('/');
            }
            joined.text.push_str(segment);
            joined.segments.push(segment.clone());
        }
        joined
    }

    /// The place that this relative path leads to from here.
    pub fn below(&self, path: &str) -> Self {
        let segments: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        self.join(&segments)
    }

    /// Whether it is on the file system of a machine.
    pub fn is_local(&self) -> bool {
        self.service == "file://"
    }

    /// How many segments lead to it.
    pub fn depth(&self) -> usize {
        self.segments.len()
    }

    /// The place as distcp is told it: a local one as a plain path, in which nothing is escaped.
    pub fn place(&self) -> String {
        match self.is_local() {
            true => format!("/{}", self.segments.join("/")),
            false => self.text.clone(),
        }
    }

    /// Service and segments: equal for equal places.
    pub fn path(&self) -> Vec<String> {
        std::iter::once(&self.service).chain(&self.segments).cloned().collect()
    }

    /// One text for equal places, which reads as this place again.
    pub fn normal(&self) -> String {
        format!("{}/{}", self.service, self.segments.join("/"))
    }

    /// The last segment of it; `None` for the root of its service.
    pub fn name(&self) -> Option<&str> {
        self.segments.last().map(String::as_str)
    }

    /// All of its segments.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The folder that it is in; `None` for the root of its service.
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.segments.split_last()?;
        let trimmed = self.text.trim_end_matches('/');
        let text = trimmed.get(..trimmed.rfind('/')?)?;
        let text = if rest.is_empty() { format!("{text}/") } else { text.trim_end_matches('/').to_owned() };
        Some(Self { text, service: self.service.clone(), segments: rest.to_vec() })
    }
}

/// As it was written.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether two locations of a metastore are one place, however written.
pub fn same_place(a: Option<&str>, b: Option<&str>) -> bool {
    let parsed = |text: Option<&str>| Location::parse(text?).ok();
    a == b || parsed(a).zip(parsed(b)).is_some_and(|(a, b)| a.is_same(&b))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|character| character.is_ascii_alphanumeric() || matches!(character, '+' | '-' | '.'))
}

/// From where to where, of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocationMap {
    /// Longest first.
    pairs: Vec<(Location, Location)>,
    /// Folders that stand elsewhere than the pairs say.
    elsewhere: Elsewhere,
}

/// Folders of the source by their path, with where they stand on the replica; and the same by where they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Elsewhere {
    there: BTreeMap<Vec<String>, (Location, Location)>,
    back: BTreeMap<Vec<String>, (Location, Location)>,
}

/// The pair of the innermost folder around this place.
fn around<'a>(
    folders: &'a BTreeMap<Vec<String>, (Location, Location)>,
    place: &Location,
) -> Option<&'a (Location, Location)> {
    if folders.is_empty() {
        return None;
    }
    let mut path = place.path();
    while !path.is_empty() {
        if let Some(found) = folders.get(&path) {
            return Some(found);
        }
        path.pop();
    }
    None
}

/// Where these pairs bring a place: the first that matches decides. `None` if none does.
pub fn brought(pairs: &[(Location, Location)], place: &Location) -> Option<Location> {
    pairs.iter().find_map(|(from, to)| Some(to.join(from.relative(place)?)))
}

/// Two places of the source that pairs bring to one of the target, and which. Where a target lies in that of another
/// pair, what the other one brings there must be decided by a longer pair: of `/a -> /t` and `/b -> /t/x` both reach
/// `/t/x`, unless `/a/x` has a pair of its own.
fn shared(pairs: &[(Location, Location)]) -> Option<(Location, &Location, &Location)> {
    pairs.iter().find_map(|(outer, outer_to)| {
        pairs.iter().find_map(|(from, to)| {
            let inside = outer_to.relative(to).filter(|inside| !inside.is_empty())?;
            let twin = outer.join(inside);
            let decides =
                |(other, _): &(Location, Location)| other.depth() > outer.depth() && other.relative(&twin).is_some();
            if pairs.iter().any(decides) { None } else { Some((twin, from, to)) }
        })
    })
}

impl LocationMap {
    /// Checks the pairs: no two places of the source go to one. Errors: two of the same source place, two that reach the
    /// same target place, or a target inside a source or around it; then which.
    pub fn new(mut pairs: Vec<(Location, Location)>) -> Result<Self, String> {
        for (i, (from, to)) in pairs.iter().enumerate() {
            for (other_from, other_to) in &pairs[..i] {
                if from.is_same(other_from) {
                    return Err(format!("{from} is mapped twice"));
                }
                if to.is_same(other_to) {
                    return Err(format!("{other_from} and {from} are mapped to one place, {to}"));
                }
            }
            if let Some((other, _)) = pairs.iter().find(|(other, _)| other.overlaps(to)) {
                return Err(format!("the target {to} and the source {other} overlap"));
            }
        }
        if let Some((one, other, to)) = shared(&pairs) {
            return Err(format!("{one} and {other} are mapped to one place, {to}: map {one} elsewhere, or {other}"));
        }
        pairs.sort_by_key(|(from, _)| std::cmp::Reverse(from.segments.len()));
        Ok(Self { pairs, elsewhere: Elsewhere::default() })
    }

    /// The same, but for folders of the source that stand elsewhere on the replica than the pairs say.
    pub fn with_elsewhere(&self, folders: impl IntoIterator<Item = (Location, Location)>) -> Self {
        let mut elsewhere = Elsewhere::default();
        for (from, to) in folders {
            elsewhere.back.insert(to.path(), (to.clone(), from.clone()));
            elsewhere.there.insert(from.path(), (from, to));
        }
        Self { pairs: self.pairs.clone(), elsewhere }
    }

    /// Folders that stand elsewhere than the pairs say, with where.
    pub fn elsewhere(&self) -> impl Iterator<Item = &(Location, Location)> {
        self.elsewhere.there.values()
    }

    /// Where the pairs say that it stands on the replica; `None` if none matches.
    pub fn map_by_pairs(&self, location: &Location) -> Option<Location> {
        brought(&self.pairs, location)
    }

    /// Where it stands on the replica; `None` if no pair matches.
    pub fn map(&self, location: &Location) -> Option<Location> {
        match around(&self.elsewhere.there, location) {
            Some((from, to)) => Some(to.join(from.relative(location)?)),
            None => self.map_by_pairs(location),
        }
    }

    /// Where a place of the replica is at the source; `None` if no pair leads there.
    pub fn unmap(&self, location: &Location) -> Option<Location> {
        if let Some((to, from)) = around(&self.elsewhere.back, location) {
            return Some(from.join(to.relative(location)?));
        }
        let back = |(from, to): &(Location, Location)| Some(from.join(to.relative(location)?));
        let mut found = self.pairs.iter().filter_map(back);
        found.find(|from| self.map(from).is_some_and(|to| to.is_same(location)))
    }

    /// The same for text that may be anything: `None` too if it is no location.
    pub fn map_text(&self, text: &str) -> Option<String> {
        Some(self.map(&Location::parse(text).ok()?)?.to_string())
    }

    /// The pair that decides for this location.
    pub fn pair(&self, location: &Location) -> Option<&(Location, Location)> {
        self.pairs.iter().find(|(from, _)| from.relative(location).is_some())
    }

    /// All pairs, the longest source first.
    pub fn pairs(&self) -> &[(Location, Location)] {
        &self.pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn location(text: &str) -> Location {
        Location::parse(text).unwrap()
    }

    fn map(pairs: &[(&str, &str)]) -> Result<LocationMap, String> {
        LocationMap::new(pairs.iter().map(|(from, to)| (location(from), location(to))).collect())
    }

    #[test]
    fn rule_04_a_location_matches_at_a_segment_boundary_and_takes_the_form_of_its_target() {
        let map = map(&[
            ("s3://lake-eu/warehouse", "s3a://lake-us/w"),
            ("s3://lake-eu/warehouse/hot/", "abfss://c@a.dfs.core.windows.net/h"),
        ])
        .unwrap();
        for (from, to) in [
            ("s3a://lake-eu/warehouse/t/p=1", Some("s3a://lake-us/w/t/p=1")),
            ("s3n://lake-eu//warehouse", Some("s3a://lake-us/w")),
            ("s3://lake-eu/warehouse/hot/x", Some("abfss://c@a.dfs.core.windows.net/h/x")),
            ("s3://lake-eu/warehouse/hotter", Some("s3a://lake-us/w/hotter")),
            ("s3://lake-eu/warehouse-2/t", None),
            ("s3://lake-eu-2/warehouse/t", None),
            ("s3://lake-eu", None),
            ("jdbc:derby:x", None),
            ("just text", None),
        ] {
            assert_eq!(map.map_text(from).as_deref(), to, "{from}");
        }
    }

    #[test]
    fn one_place_has_many_forms() {
        for (a, b) in [
            ("file:/x/y", "/x//y/"),
            ("file:///x/y", "file:/x/y"),
            ("s3a://b/x", "s3://b/x/"),
            ("wasbs://c@a.blob.core.windows.net/x", "abfss://c@a.dfs.core.windows.net/x"),
        ] {
            assert!(location(a).is_same(&location(b)), "{a} {b}");
        }
        assert!(!location("hdfs://a/x").is_same(&location("hdfs://b/x")));
        assert_eq!(location("file:///x//y").join(&["z".to_owned()]).to_string(), "file:/x/y/z");
        assert!(same_place(Some("file:///x"), Some("file:/x")) && !same_place(Some("/x"), None));
        for wrong in ["x", "", "s3:x", "s3://b/../c", "/a/./b"] {
            assert!(Location::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn maps_that_contradict_themselves_are_refused() {
        for (pairs, word) in [
            (&[("/a", "/t1"), ("file:/a/", "/t2")][..], "twice"),
            (&[("/a", "/t"), ("/b", "/t/")], "one place"),
            (&[("/a", "/a/copy")], "overlap"),
            (&[("/a/b", "/a")], "overlap"),
            (&[("/a", "/t"), ("/t/x", "/u")], "overlap"),
            (&[("/a", "/t"), ("/b", "/t/x")], "file:/a/x and /b are mapped to one place, /t/x"),
            (&[("/b", "/t/x"), ("/a", "/t")], "file:/a/x and /b are mapped to one place, /t/x"),
            (&[("/a", "/t"), ("/a/x", "/t/y/x")], "file:/a/y/x and /a/x are mapped to one place"),
            (
                &[("s3://a/w", "s3://t"), ("s3://b", "s3a://t/x/y"), ("s3://a/w/x/y/z", "s3://u")],
                "s3://a/w/x/y and s3://b",
            ),
        ] {
            let error = map(pairs).unwrap_err();
            assert!(error.contains(word), "{pairs:?}: {error}");
        }
    }

    #[test]
    fn targets_may_lie_in_each_other_where_no_two_places_meet() {
        for pairs in [
            &[("/a", "/t"), ("/a/x", "/t/x")][..],
            &[("/a", "/t"), ("/a/x", "/u"), ("/b", "/t/x")],
            &[("/a", "/t"), ("/a/x", "/u"), ("/b", "/t/x/y")],
            &[("/a", "/t"), ("/a/x", "/t/y"), ("/a/y", "/t/x")],
            &[("/a", "/t"), ("/a/y", "/u"), ("/a/x", "/t/y/x")],
        ] {
            assert!(map(pairs).is_ok(), "{pairs:?}: {:?}", map(pairs).err());
        }
    }

    /// A place below this folder by the segments `a` and `b`.
    fn below(root: &'static str, most: usize) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b"]), 0..=most)
            .prop_map(move |parts| parts.iter().fold(root.to_owned(), |path, part| format!("{path}/{part}")))
    }

    /// All places up to this depth.
    fn all(depth: usize) -> Vec<Location> {
        let mut all = vec![location("/s")];
        for at in 0.. {
            match all.get(at).cloned() {
                Some(place) if place.depth() <= depth => all.extend(["a", "b"].map(|part| place.below(part))),
                _ => return all,
            }
        }
        all
    }

    #[test]
    fn a_folder_has_a_parent() {
        assert_eq!(location("s3://b/x/y/").parent().unwrap().to_string(), "s3://b/x");
        assert_eq!(location("s3://b/x").parent().unwrap().to_string(), "s3://b/");
        assert_eq!(location("/x").parent().unwrap().to_string(), "/");
        assert_eq!(location("s3://b/").parent(), None);
    }

    proptest! {
        #[test]
        fn no_two_places_go_to_one(pairs in prop::collection::btree_map(below("/s", 2), below("/t", 2), 1..6)) {
            let pairs: Vec<_> = pairs.iter().map(|(from, to)| (location(from), location(to))).collect();
            // In order, so that a longer pair decides before a shorter one.
            let mut unchecked = LocationMap { pairs: pairs.clone(), elsewhere: Elsewhere::default() };
            unchecked.pairs.sort_by_key(|(from, _)| std::cmp::Reverse(from.depth()));
            let mut there = std::collections::BTreeSet::new();
            let meet = all(5).iter().filter_map(|place| unchecked.map(place)).any(|to| !there.insert(to.path()));
            match LocationMap::new(pairs) {
                Ok(_) => prop_assert!(!meet),
                Err(why) => prop_assert!(meet, "{}", why),
            }
        }

        #[test]
        fn what_leads_from_a_to_b_joins_to_b(base in "[a-c]{1,3}(/[a-c]{1,2}){0,3}", rest in prop::collection::vec("[a-c%=]{1,3}", 0..4)) {
            let a = location(&format!("s3://{base}"));
            let b = a.join(&rest);
            prop_assert_eq!(a.relative(&b), Some(rest.as_slice()));
            let again = location(&b.to_string());
            prop_assert!(b.is_same(&again));
            if let (Some(parent), false) = (b.parent(), rest.is_empty()) {
                prop_assert!(parent.is_same(&a.join(&rest[..rest.len() - 1])));
            }
        }
    }
}
