//! Where in a tree that lies which a listing is asked for: what it need not come by.
//!
//! Pure. A listing may yield more than its cover holds, never less: whoever asked for some folders passes over the rest. So
//! folders of one tree that lie far apart cost what they hold, and those beside each other are read in one go.
//!
//! Some servers order keys as UTF-16, in which what is above U+FFFF comes before U+E000, and some folder by folder (`a/x`
//! before `a-b`). Nobody jumps where these orders differ from that of bytes: there a jump would pass over what such a server
//! lists elsewhere, and a listing in another order is noticed only by what it shows.

use manifest::ObjectKey;

/// Folders, or single objects, each with all that is in it; relative to the root of the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cover {
    /// As keys, none inside another.
    folders: Vec<ObjectKey>,
    /// Stretches of keys, from the first to before the second, sorted, none overlaps another. A folder's are two: its own key,
    /// and what begins with it and a slash; between them others sort (`t`, `t-2/x`, `t/x`).
    stretches: Vec<(Vec<u8>, Vec<u8>)>,
}

/// How a listing in the order of keys goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// With the next key.
    Here,
    /// With those behind this one: what comes before is not asked for.
    Behind(ObjectKey),
    /// Not at all.
    Nowhere,
}

impl Cover {
    /// Of these folders, in any order; `None` where that is the whole tree.
    pub fn new(folders: impl IntoIterator<Item = ObjectKey>) -> Option<Self> {
        let slashed = |key: &ObjectKey| [key.as_bytes(), b"/"].concat();
        let mut sorted: Vec<(Vec<u8>, ObjectKey)> = folders.into_iter().map(|key| (slashed(&key), key)).collect();
        if sorted.iter().any(|(_, key)| key.is_empty()) {
            return None;
        }
        sorted.sort_unstable();
        sorted.dedup_by(|(inner, _), (outer, _)| inner.starts_with(outer));
        let mut stretches = Vec::with_capacity(2 * sorted.len());
        for (below, key) in &sorted {
            stretches.push((key.as_bytes().to_vec(), [key.as_bytes(), &[0]].concat()));
            stretches.push((below.clone(), after_slash(key.as_bytes())));
        }
        stretches.sort_unstable();
        Some(Self { folders: sorted.into_iter().map(|(_, key)| key).collect(), stretches })
    }

    /// The folders, none inside another.
    pub fn folders(&self) -> &[ObjectKey] {
        &self.folders
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// Whether it holds this key.
    pub fn holds(&self, key: &[u8]) -> bool {
        self.stretches.get(self.ending_after(key)).is_some_and(|(from, _)| from.as_slice() <= key)
    }

    /// Whether it may hold something below this folder, whose key is without a slash at its end; the root's is empty.
    pub fn reaches_below(&self, folder: &[u8]) -> bool {
        folder.is_empty() || self.reaches(&[folder, b"/"].concat(), &after_slash(folder))
    }

    /// Whether it may hold a key that begins so.
    pub fn reaches_beginning(&self, beginning: &[u8]) -> bool {
        let at = self.ending_after(beginning);
        self.stretches.get(at).is_some_and(|(from, _)| from.as_slice() <= beginning || from.starts_with(beginning))
    }

    /// Whether it holds every key that begins so.
    pub fn holds_beginning(&self, beginning: &[u8]) -> bool {
        let is_around = |folder: &ObjectKey| {
            beginning.strip_prefix(folder.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        // None is inside another: only the last one that is not behind the beginning can be around it.
        let slashed = |folder: &ObjectKey| [folder.as_bytes(), b"/"].concat();
        let after = self.folders.partition_point(|folder| slashed(folder).as_slice() <= beginning);
        after.checked_sub(1).is_some_and(|at| is_around(&self.folders[at]))
    }

    /// How a listing goes on that has come to `last`; `None` at its beginning.
    pub fn next(&self, last: Option<&ObjectKey>) -> Next {
        if last.is_some_and(|last| self.may_come_late(last.as_bytes())) {
            return Next::Here;
        }
        let at = match last {
            // The next key is at the least this one and a zero byte.
            Some(last) => self.ending_after(&[last.as_bytes(), &[0]].concat()),
            None => 0,
        };
        let Some((from, _)) = self.stretches.get(at) else { return Next::Nowhere };
        let behind = before(from);
        match last {
            Some(last) if behind <= *last => Next::Here,
            None if behind.is_empty() => Next::Here,
            _ if !self.may_cut(&behind) => Next::Here,
            _ => Next::Behind(behind),
        }
    }

    /// The key behind which half of it lies of what comes after `last`, up to `end`, but no more than so many folders on; `None` if
    /// there is not more than one folder, or no key to cut at.
    pub fn ahead(&self, last: &ObjectKey, end: Option<&ObjectKey>, folders: usize) -> Option<ObjectKey> {
        let from = self.stretches.partition_point(|(from, _)| from.as_slice() <= last.as_bytes());
        let to = end.map_or(self.stretches.len(), |end| {
            self.stretches.partition_point(|(from, _)| from.as_slice() <= end.as_bytes())
        });
        let count = to.checked_sub(from).filter(|count| *count > 2)?;
        Some(before(&self.stretches[from + (count / 2).min(2 * folders)].0)).filter(|at| self.may_cut(at))
    }

    /// Whether in any of the orders something of it may come behind this key that sorts before it.
    fn may_come_late(&self, key: &[u8]) -> bool {
        let between = |at: usize| self.reaches(&[&key[..at], &[0]].concat(), &[&key[..at], b"/"].concat());
        key.iter().any(|byte| *byte >= ABOVE_FFFF) || (0..key.len()).any(|at| key[at] == b'/' && between(at))
    }

    /// Whether in any order all of it that sorts behind this key comes behind it.
    fn may_cut(&self, key: &ObjectKey) -> bool {
        let key = key.as_bytes();
        !key.iter().any(|byte| FROM_E000.contains(byte))
            && !(0..key.len()).any(|at| key[at] < b'/' && at > 0 && self.reaches_below(&key[..at]))
    }

    /// Where its first stretch is that does not end up to this key.
    fn ending_after(&self, key: &[u8]) -> usize {
        self.stretches.partition_point(|(_, end)| end.as_slice() <= key)
    }

    fn reaches(&self, from: &[u8], to: &[u8]) -> bool {
        self.stretches.get(self.ending_after(from)).is_some_and(|(start, _)| start.as_slice() < to)
    }
}

/// The first byte of characters above U+FFFF, and of those from U+E000 to there.
const ABOVE_FFFF: u8 = 0xf0;
const FROM_E000: [u8; 2] = [0xee, 0xef];

/// The first key behind all that begin with this one and a slash.
fn after_slash(key: &[u8]) -> Vec<u8> {
    [key, b"0"].concat()
}

/// A key before this one, with little between them: behind it a listing begins that shall hold this one. Of text it is text.
fn before(key: &[u8]) -> ObjectKey {
    let Some((last, rest)) = std::str::from_utf8(key).ok().and_then(|text| {
        let last = text.chars().next_back()?;
        Some((last, &text[..text.len() - last.len_utf8()]))
    }) else {
        return ObjectKey::from(key.split_last().map_or(key, |(_, rest)| rest).to_vec());
    };
    let one_less = match last {
        '\u{e000}' => Some('\u{d7ff}'),
        last => {
            u32::from(last).checked_sub(1).and_then(char::from_u32).filter(|less| !less.is_control() && *less != ' ')
        }
    };
    // What begins with that, too, as far as it is ASCII.
    let tail = if one_less.is_some_and(|less| less.is_ascii()) { "~" } else { "" };
    ObjectKey::from(format!("{rest}{}{tail}", one_less.map(String::from).unwrap_or_default()).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cover(folders: &[&str]) -> Cover {
        Cover::new(folders.iter().map(|folder| ObjectKey::from(*folder))).unwrap()
    }

    #[test]
    fn a_listing_jumps_from_folder_to_folder() {
        let cover = cover(&["b", "ext/t2", "ext/t9"]);
        let next = |last: &str| cover.next(Some(&ObjectKey::from(last)));
        let behind = |key: &str| Next::Behind(ObjectKey::from(key));
        assert_eq!(cover.next(None), behind("a~"));
        assert_eq!(next("b"), Next::Here, "a server may have what is in it next, and then `b-c`");
        assert_eq!(next("b/x"), Next::Here);
        assert_eq!(next("b/zzz/zzz"), Next::Here);
        assert_eq!(next("b0"), behind("ext/t1~"));
        assert_eq!(next("ext/t2/zz"), Next::Here);
        assert_eq!(next("ext/t3/a"), behind("ext/t8~"));
        assert_eq!(next("ext/t90/a"), Next::Nowhere);
        assert_eq!(Cover::new([ObjectKey::default(), "x".into()]), None, "the whole tree");
        assert_eq!(Cover::new([]).unwrap().next(None), Next::Nowhere);
    }

    #[test]
    fn nobody_jumps_where_folders_have_another_order_than_their_names() {
        let cover = cover(&["a-b", "a/x", "d/orders", "d/orders-2"]);
        let next = |last: &str| cover.next(Some(&ObjectKey::from(last)));
        assert_eq!(cover.next(None), Next::Here, "`a/x` may come before `a-a~`");
        assert_eq!(next("a/y/f"), Next::Here, "`a-b` may still come");
        assert_eq!(next("b/f"), Next::Behind("d/orderr~".into()));
        assert_eq!(next("d/orders-1/f"), Next::Here);
        assert_eq!(next("d/orders/f"), Next::Here);
        assert_eq!(next("d/p/f"), Next::Nowhere);
    }

    #[test]
    fn nobody_jumps_where_utf_16_has_another_order() {
        let cover = cover(&["x\u{e000}", "y", "z\u{ffff}"]);
        let next = |last: &str| cover.next(Some(&ObjectKey::from(last)));
        assert_eq!(next("x\u{10000}/f"), Next::Here, "x\u{e000} may still come");
        assert_eq!(next("x!"), Next::Behind("x\u{d7ff}".into()));
        assert_eq!(next("x\u{e001}/f"), Next::Here, "y is near enough");
        assert_eq!(next("y0"), Next::Here, "z\u{10000} may come before it");
        assert_eq!((next("\u{10000}"), next("\u{e000}")), (Next::Here, Next::Nowhere));
    }

    #[test]
    fn a_listing_is_cut_between_folders() {
        let cover = cover(&["a", "b", "c", "d"]);
        let middle = |last: &str, end: Option<&str>| {
            cover.ahead(&ObjectKey::from(last), end.map(ObjectKey::from).as_ref(), 4).map(|key| key.to_string())
        };
        assert_eq!(middle("0", None).as_deref(), Some("b~"));
        assert_eq!(middle("a/x", Some("b~")), None, "one is no half");
        assert_eq!(middle("b~", None).as_deref(), Some("c~"));
        assert_eq!(middle("d/x", None), None);
        let many: Vec<ObjectKey> = (10..90).map(|at| ObjectKey::from(format!("t{at}").as_str())).collect();
        let cut = Cover::new(many).unwrap().ahead(&ObjectKey::from("a"), None, 4);
        assert_eq!(cut, Some(ObjectKey::from("t13~")), "four folders on");
    }

    proptest! {
        #[test]
        fn what_it_says_is_what_asking_every_folder_says(
            folders in prop::collection::vec("[ab/!0.é\u{10000}]{1,5}", 0..6),
            keys in prop::collection::vec("[ab/!0.é\u{10000}]{1,7}", 1..20),
        ) {
            let folders: Vec<String> = folders.iter().map(|f| f.trim_end_matches('/').to_owned()).filter(|f| !f.is_empty()).collect();
            let cover = Cover::new(folders.iter().map(|folder| ObjectKey::from(folder.as_str()))).unwrap();
            let holds = |key: &str| folders.iter().any(|folder| key == *folder || key.starts_with(&format!("{folder}/")));
            let mut sorted = keys.clone();
            sorted.sort();
            for key in &sorted {
                prop_assert_eq!(cover.holds(key.as_bytes()), holds(key), "{} in {:?}", key, &folders);
                let below = |folder: &String| format!("{folder}/").starts_with(&format!("{key}/")) || holds(key);
                if folders.iter().any(below) {
                    prop_assert!(cover.reaches_below(key.as_bytes()), "below {} in {:?}", key, &folders);
                }
                let begun = |folder: &String| folder.starts_with(key.as_str()) || key.starts_with(&format!("{folder}/"));
                prop_assert_eq!(
                    cover.reaches_beginning(key.as_bytes()),
                    folders.iter().any(|folder| begun(folder) || folder == key || format!("{folder}/") == *key),
                    "{} in {:?}", key, &folders
                );
                let all = folders.iter().any(|folder| key.starts_with(&format!("{folder}/")));
                prop_assert_eq!(cover.holds_beginning(key.as_bytes()), all, "{} in {:?}", key, &folders);
                let last = ObjectKey::from(key.as_str());
                let (from, none) = match cover.next(Some(&last)) {
                    Next::Here => (last.clone(), false),
                    Next::Behind(behind) => {
                        prop_assert!(behind > last);
                        prop_assert!(behind.as_str().is_some(), "text stays text");
                        (behind, false)
                    }
                    Next::Nowhere => (last.clone(), true),
                };
                for other in sorted.iter().filter(|other| *other > key && holds(other)) {
                    prop_assert!(!none && ObjectKey::from(other.as_str()) > from, "{other} is passed over after {key}: {folders:?}");
                }
            }
            for folder in &folders {
                prop_assert!(before(folder.as_bytes()) < ObjectKey::from(folder.as_str()));
            }
        }
    }
}
